"""Prompt compression, measured: SQuAD, its official metrics, and the baselines to beat."""

from llgbm.latentwire.data.squad import Question, load_squad
from llgbm.latentwire.metrics import exact_match, f1_score

__all__ = ["Question", "exact_match", "f1_score", "load_squad"]
