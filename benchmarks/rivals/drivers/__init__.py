"""The programs that use each system as an application would: each runs in that system's own environment."""
