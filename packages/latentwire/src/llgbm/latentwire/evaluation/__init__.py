"""Evaluation: rows held against text and token budgets, oracles, results."""
