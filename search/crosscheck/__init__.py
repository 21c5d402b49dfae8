"""Scores a front with a second energy model, ZigZag."""
