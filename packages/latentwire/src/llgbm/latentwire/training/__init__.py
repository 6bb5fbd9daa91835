"""Trainings: a reader on full text, once; a compressor in stages."""
