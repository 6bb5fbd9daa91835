"""Benchmarks: correctness first, then time, on the same inputs in one run."""
