-- Begin what may be undone within the caller's transaction.
SAVEPOINT rowlock_enqueue
