-- Of attempts whose outcomes were refused at a second try: those that the first try, whose answer was lost, has recorded.
--
-- $1 the worker   $2 ids uuid[]   $3 attempts integer[]. Of a rescue's `crashed` none is this worker's own word.
-- Index: the primary key of each partition of the archive. Locks: none.
SELECT given.id
  FROM unnest($2::uuid[], $3::integer[]) AS given (id, attempt)
 WHERE EXISTS (
           SELECT FROM rowlock.finished_job AS finished
            WHERE finished.id = given.id
              AND finished.attempt = given.attempt
              AND finished.worker = $1::uuid
              AND finished.state = 'succeeded'
       )
    OR EXISTS (
           SELECT FROM rowlock.attempt AS told
            WHERE told.job_id = given.id
              AND told.attempt = given.attempt
              AND told.worker = $1::uuid
              AND told.outcome <> 'crashed'
       )
