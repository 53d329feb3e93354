-- A slot that exists already keeps the larger count.
ON CONFLICT ON CONSTRAINT statistic_pkey DO UPDATE
   -- seam: counted jobs
   SET succeeded = excluded.succeeded, failed = excluded.failed, cancelled = excluded.cancelled,
       expired = excluded.expired, errors = excluded.errors, duration_buckets = excluded.duration_buckets,
       duration_counts = excluded.duration_counts, wait_buckets = excluded.wait_buckets,
       wait_counts = excluded.wait_counts
 WHERE excluded.succeeded + excluded.failed + excluded.cancelled + excluded.expired + excluded.errors
     > kept.succeeded + kept.failed + kept.cancelled + kept.expired + kept.errors
