-- Undo the changes since savepoint.sql; the savepoint itself stays.
ROLLBACK TO SAVEPOINT rowlock_enqueue
