"""Subcommands of `llgbm-deltas`."""
