"""Multipliers by name, with their costs."""
