"""Experiments: what each choice of the method is worth, measured at three scales."""
