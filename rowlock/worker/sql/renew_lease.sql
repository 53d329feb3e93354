-- Renew a lease that has not run out. $1 the worker   $2 the lease   $3 the delay of its event loop in milliseconds
-- $4 the memory that it uses in bytes, or null.
-- Returns no row if the lease has run out: other workers may have its jobs by now.
UPDATE rowlock.worker
   SET expires_at = clock_timestamp() + $2::interval,  -- seam: renewed
       loop_delay_ms = $3::integer,
       memory_bytes = $4::bigint
 WHERE id = $1::uuid
   AND expires_at > clock_timestamp()  -- seam: lapsed
RETURNING id
