"""Tasks, candidates and search spaces."""
