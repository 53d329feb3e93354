-- End a worker's lease at a clean stop. $1 the worker. What it still holds, if anything, is rescued at once.
WITH awake AS (
    DELETE FROM rowlock.idle_worker WHERE worker = $1::uuid
)
UPDATE rowlock.worker SET expires_at = '-infinity' WHERE id = $1::uuid
