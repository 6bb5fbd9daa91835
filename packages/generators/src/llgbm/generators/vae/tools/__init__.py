"""Latent tools: sample, interpolate and search; each writes PEFT folders."""
