-- A row of rowlock.statistic from `summed`, and from `timed` where that has times. $1 the length of the slot in seconds integer
summed.at, $1::integer, summed.queue, summed.task, succeeded, failed, cancelled, expired, errors,
coalesce(duration_buckets, '{}'), coalesce(duration_counts, '{}'), coalesce(wait_buckets, '{}'), coalesce(wait_counts, '{}')
