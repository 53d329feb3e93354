"""Store jobs: one or many, in Rowlock's transaction or the caller's."""
