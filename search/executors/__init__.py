"""Executors: evaluate candidates in this process or in Ray workers."""
