"""Images with their classes: built-in data sets, and those that users bring."""
