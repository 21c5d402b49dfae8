"""What people give as their images: folders, files and Python objects become one kind of value, a `Source`."""
