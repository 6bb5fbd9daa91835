"""VAEs over adapters: latents to sample, interpolate and search in (seed 000)."""
