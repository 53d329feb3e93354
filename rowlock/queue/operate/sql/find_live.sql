-- The next live jobs that match a filter and have no requested cancel, in the order of their ids.
--
-- $1 to $16 the filter, see job_filter.sql   $17 how many   $18 the time limit of its search interval, see found_in_order.sql
-- $19 only ids above this one (the last one found)
-- $20 only jobs created by then: a bulk act does not include jobs that arrive meanwhile   $21 the stored states to find text[]
--
-- Reads only the live jobs. Index: job_pkey.
WITH seen AS (
    SELECT {{live_job}},
           state = ANY($21::text[]) AND cancel_requested_at IS NULL AND created_at <= $20::timestamptz AS is_meant
      FROM rowlock.job
     WHERE id > greatest($4::uuid, $19::uuid) AND id < $5::uuid
     ORDER BY id
)
{{found_in_order}}
