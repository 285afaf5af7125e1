"""What several test files stand on: made videos, scratch protocols, seeded weights, the smoke tier in a folder."""
