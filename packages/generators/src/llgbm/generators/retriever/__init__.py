"""Predict, retrieve, merge: an adapter from a store by the delta that a text asks for."""
