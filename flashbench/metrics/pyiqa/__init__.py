"""Metrics of pyiqa, and the networks of ours that stand in for it."""
