"""A table of the paper as data: composed from YAML, its cases, its published numbers."""
