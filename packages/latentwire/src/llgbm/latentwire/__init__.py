"""Prompt compression, measured: SQuAD, its official metrics, and the baselines to beat."""

from llgbm.latentwire.metrics import exact_match, f1_score
from llgbm.latentwire.squad import Question, load_squad

__all__ = ["Question", "exact_match", "f1_score", "load_squad"]
