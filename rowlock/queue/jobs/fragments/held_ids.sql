-- The ids of the jobs that workers hold, and of some that they held: compare job.worker. A condition on `holding` follows.
SELECT held.id FROM rowlock.holding CROSS JOIN LATERAL unnest(holding.ids) AS held (id)
