"""Results in words, tables, pictures and pages."""
