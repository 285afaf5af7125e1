"""What `flashbench run` does, phase by phase."""
