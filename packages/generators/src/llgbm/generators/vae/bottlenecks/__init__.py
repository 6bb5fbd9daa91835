"""Bottlenecks: how features become a latent, one file each, with one interface."""
