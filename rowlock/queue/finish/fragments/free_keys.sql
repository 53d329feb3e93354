-- Free the unique keys that the `gone` jobs held until their finish. $2 their ids uuid[]
DELETE FROM rowlock.unique_key
 WHERE key = ANY(ARRAY(SELECT unique_key FROM gone WHERE unique_key IS NOT NULL))
   AND job_id = ANY($2::uuid[])
   AND expires_at IS NULL  -- seam: key for a period
   AND NOT until_start
