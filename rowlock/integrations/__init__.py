"""Rowlock with other libraries: one module for each library, imported only if that library is in use."""
