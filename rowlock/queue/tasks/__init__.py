"""From a function's signature to checked JSON and back. Pure."""
