"""Experiments 4b.1 to 4b.4 of seed 000: what a latent space of adapters holds."""
