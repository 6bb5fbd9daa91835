"""Texts and questions: SQuAD by article, passages for pretraining, key-value retrieval."""
