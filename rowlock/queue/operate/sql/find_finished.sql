-- The next finished jobs that match a filter and did not succeed, in the order of their ids.
--
-- $1 to $16 the filter, see job_filter.sql; the state is required   $17 how many
-- $18 the time limit of its search interval, see found_in_order.sql
-- $19 only ids above this one (the last one found)
-- $20 only jobs finished by then: a bulk act does not include jobs that fail meanwhile
-- $21 that ended from then on, $22 and before then: run it under force_custom_plan, so that other partitions are not locked
--
-- Index: finished_job_unsuccessful of each of these partitions.
WITH seen AS (
    SELECT {{finished_job}}, true AS is_meant
      FROM rowlock.finished_job
     WHERE state = $1::text AND state <> 'succeeded'
       AND id > greatest($4::uuid, $19::uuid) AND id < $5::uuid
       AND finished_at <= $20::timestamptz
       AND finished_at >= $21::timestamptz AND finished_at < $22::timestamptz
     ORDER BY id
)
{{found_in_order}}
