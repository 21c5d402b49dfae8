"""Multipliers by name, with their errors and costs."""
