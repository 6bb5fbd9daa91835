"""What a sideways VAE is good for, measured: predictions, fronts, starts and trajectories."""
