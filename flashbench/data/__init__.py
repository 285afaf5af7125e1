"""What clips are made of and from: prompts, scenes, material and its views."""
