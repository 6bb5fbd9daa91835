"""Subcommands of `llgbm-latentwire`, one file each."""
