"""Canonical forms: representations of an update that do not depend on how it was factored.

B A and (B R)(R⁻¹ A) are one update; whoever compares or encodes A and B sees two.
"""
