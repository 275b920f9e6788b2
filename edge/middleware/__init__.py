"""What happens around every request: one concern a file, plain ASGI, nothing done a second time per chunk."""
