-- Keep what was done since savepoint.sql.
RELEASE SAVEPOINT rowlock_enqueue
