"""Searches, evaluations and fresh runs in SQL."""
