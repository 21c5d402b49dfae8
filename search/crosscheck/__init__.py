"""A front scored by a second model, ZigZag."""
