"""The CPU tier: material from PyPI wheels, a closed-form codec, and the recipes that train small cascades."""
