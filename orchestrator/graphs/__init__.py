"""The graphs that runs execute, by name and version."""
