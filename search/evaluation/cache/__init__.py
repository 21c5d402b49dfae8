"""What keeps trained steps."""
