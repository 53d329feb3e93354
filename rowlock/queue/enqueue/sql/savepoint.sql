-- Begin a part of the caller's transaction that can be rolled back.
SAVEPOINT rowlock_enqueue
