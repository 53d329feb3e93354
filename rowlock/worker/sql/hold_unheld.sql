-- Write down running jobs that their workers do not hold (`holding`), in a part of the table: nothing else finds these. No
-- statement makes one. A manual change of the tables does, and a server that loses its last commits while a worker keeps its
-- connection to a pooler.
--
-- $1 the size of the part in pages   Returns the number of those jobs.
-- The part begins at a random page, or before the first one, so that all pages have the same chance; a table that is not
-- larger is read as a whole. Index: a Tid Range Scan. Locks: the rows
-- that it writes.
WITH part AS MATERIALIZED (
    SELECT CASE WHEN size.pages <= $1::bigint THEN 0 ELSE floor(random() * (size.pages + $1::bigint)) - $1::bigint END AS begins
      FROM (SELECT pg_relation_size('rowlock.job') / current_setting('block_size')::bigint AS pages) AS size
), unheld AS MATERIALIZED (
    SELECT job.id, job.worker
      FROM rowlock.job
     WHERE job.ctid >= (SELECT format('(%s,0)', greatest(part.begins, 0))::tid FROM part)
       AND job.ctid < (SELECT format('(%s,0)', part.begins + $1::bigint)::tid FROM part)
       AND job.state = 'running'
       AND NOT EXISTS (SELECT FROM ({{held_ids}}) AS held WHERE held.id = job.id)
), written AS (
    INSERT INTO rowlock.holding AS known (worker, number, ids)
    SELECT worker, 0, array_agg(id) FROM unheld GROUP BY worker
    ON CONFLICT ON CONSTRAINT holding_pkey DO UPDATE SET ids = known.ids || excluded.ids
)
SELECT count(*) AS jobs FROM unheld
