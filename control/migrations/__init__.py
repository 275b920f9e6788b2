"""Schema history of control."""
