"""Sideways VAE (seed 003): a latent space of checkpoints, to predict, explore and steer."""
