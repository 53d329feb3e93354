"""Record outcomes."""
