"""What a run would take, and whether it would run at all."""
