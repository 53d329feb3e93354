-- The fence: those jobs of $2 whose given attempt this worker, $1, still runs. A hashed subplan: its CASE keeps the
-- planner from making it a join.
    id = ANY($2::uuid[])
AND worker = $1
AND CASE WHEN (id, attempt) IN (SELECT outcome.id, outcome.attempt FROM outcome) THEN true ELSE false END
