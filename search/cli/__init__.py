"""The command line: reads options, calls `search.api`, prints."""
