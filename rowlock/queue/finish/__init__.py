"""Record outcomes of attempts, fenced by worker and attempt."""
