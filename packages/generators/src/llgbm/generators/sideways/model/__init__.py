"""The latent space of checkpoints and what is predicted in it."""
