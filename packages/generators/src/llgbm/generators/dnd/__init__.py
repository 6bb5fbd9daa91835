"""Drag-and-Drop (DnD): LoRA weights as padded tokens, and a convolutional generator of them."""
