"""Anybody's videos: found, read as streams, scored, compared."""
