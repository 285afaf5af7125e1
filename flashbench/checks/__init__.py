"""Checks: do results add up, does this machine measure right, did a change move scores, what is behind a row."""
