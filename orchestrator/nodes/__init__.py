"""What graphs are made of."""
