-- Begin a part of the caller's transaction that may be undone.
SAVEPOINT rowlock_enqueue
