"""Teachers: many LoRA adapters trained at once, each on its own shard of a task."""
