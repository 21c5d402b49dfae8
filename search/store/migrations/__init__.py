"""The results database's schema, step by step."""
