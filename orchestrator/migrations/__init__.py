"""Schema history of the orchestrator."""
