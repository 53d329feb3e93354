-- The fence: of the jobs $2, those of which this worker, $1, still runs the very attempt. A hashed subplan, kept from becoming a
-- join by its CASE.
    id = ANY($2::uuid[])
AND worker = $1
AND CASE WHEN (id, attempt) IN (SELECT outcome.id, outcome.attempt FROM outcome) THEN true ELSE false END
