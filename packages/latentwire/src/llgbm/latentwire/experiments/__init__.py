"""Tables of the seed, run again honestly, and the recipe; each at three sizes."""
