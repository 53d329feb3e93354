-- The histograms of a slot, from rows with a bucket and its number of jobs.
array_agg(bucket ORDER BY bucket) FILTER (WHERE is_duration) AS duration_buckets,
array_agg(jobs ORDER BY bucket) FILTER (WHERE is_duration) AS duration_counts,
array_agg(bucket ORDER BY bucket) FILTER (WHERE NOT is_duration) AS wait_buckets,
array_agg(jobs ORDER BY bucket) FILTER (WHERE NOT is_duration) AS wait_counts
