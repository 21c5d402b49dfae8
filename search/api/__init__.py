"""What Python, the command line and the service call."""
