"""One attempt, from the claimed row to its outcome."""
