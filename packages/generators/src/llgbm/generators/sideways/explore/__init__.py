"""What is looked for in the latent space."""
