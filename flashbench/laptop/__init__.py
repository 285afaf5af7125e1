"""The CPU tier: material from PyPI wheels, a closed-form codec, and the recipes that train small cascades."""

RECIPES_VERSION = 1
"""Grows whenever the same settings of a recipe would train other numbers. Here, because keys need it without torch."""
