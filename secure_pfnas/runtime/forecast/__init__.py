"""What a run will cost and open, worked out before anything is spent."""
