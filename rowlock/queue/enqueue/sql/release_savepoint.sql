-- Keep the changes since savepoint.sql.
RELEASE SAVEPOINT rowlock_enqueue
