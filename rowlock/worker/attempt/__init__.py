"""One attempt, from the claimed job to its outcome."""
