"""Scores: their keys, their table, and runs of them on disk."""
