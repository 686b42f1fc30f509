"""What each store says of its size, its indexes and their use. Nothing here writes."""
