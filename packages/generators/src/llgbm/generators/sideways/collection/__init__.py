"""Checkpoints of many runs with what was measured of them."""
