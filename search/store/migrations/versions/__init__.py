"""One file a step, in order of number."""
