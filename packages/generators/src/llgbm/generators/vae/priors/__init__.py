"""Priors p(z | condition), one file each, with one interface."""
