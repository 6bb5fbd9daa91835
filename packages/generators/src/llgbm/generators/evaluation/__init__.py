"""Evaluation: held-out examples, all arms, intervals, results.json."""
