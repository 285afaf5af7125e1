"""Has an engine drifted: the same prompts and seeds made again, against how far the baseline moves by itself."""
