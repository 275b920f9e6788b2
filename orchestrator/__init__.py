"""The reasoning plane: runs, their event log, and the graphs that they execute."""
