"""Files that are not in this repository: the registry of where they come from, and how they are fetched."""
