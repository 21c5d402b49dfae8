"""A cache of the results of training steps."""
