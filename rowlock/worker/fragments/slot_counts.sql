-- The columns with the counts of a slot.
succeeded, failed, cancelled, expired, errors, duration_buckets, duration_counts, wait_buckets, wait_counts
