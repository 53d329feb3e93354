"""The shop: the one application of this project."""
