"""Sampling: the choice of the candidates to evaluate next."""
