-- The live jobs that a filter selects, without a requested cancel: the next ones in the order of their ids.
--
-- $1 to $16 the filter, see job_filter.sql   $17 how many   $18 how long it may look interval, see found_in_order.sql
-- $19 only ids above this one (the last that was found)
-- $20 only jobs created by then: a bulk act does not run after what comes in meanwhile   $21 the stored states that are meant text[]
--
-- Reads the live jobs alone. Index: job_pkey.
WITH seen AS (
    SELECT {{live_job}},
           state = ANY($21::text[]) AND cancel_requested_at IS NULL AND created_at <= $20::timestamptz AS is_meant
      FROM rowlock.job
     WHERE id > greatest($4::uuid, $19::uuid) AND id < $5::uuid
     ORDER BY id
)
{{found_in_order}}
