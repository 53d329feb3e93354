-- End a worker's lease at a clean stop. $1 the worker. Jobs that it still has are rescued at once.
WITH awake AS (
    DELETE FROM rowlock.idle_worker WHERE worker = $1::uuid
)
UPDATE rowlock.worker SET expires_at = '-infinity' WHERE id = $1::uuid
