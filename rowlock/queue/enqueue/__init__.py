"""Store jobs: one or many, in a transaction of Rowlock's or of the caller's."""
