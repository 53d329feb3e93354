"""From a function's signature to checked JSON, and back. It does no I/O."""
