"""Adapter runs as checkpoints: many hyperparameters, two aims in tension."""
