"""The systems that are compared: one module each, which says how it is set up and how its tables are read."""
