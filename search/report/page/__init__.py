"""The page that `search report` writes."""
