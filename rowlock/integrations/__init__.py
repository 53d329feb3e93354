"""Rowlock with other libraries: one module for each of them, imported only where that library is in use."""
