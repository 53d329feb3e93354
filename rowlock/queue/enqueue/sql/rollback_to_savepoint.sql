-- Undo what was done since savepoint.sql; the savepoint itself stays.
ROLLBACK TO SAVEPOINT rowlock_enqueue
