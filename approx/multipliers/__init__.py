"""Multipliers: what they compute, how they are found by name, imported, kept and measured."""
