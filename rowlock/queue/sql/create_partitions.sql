-- Make the archive's partitions of today and the next $1 days, where they are missing. Returns how many were made.
SELECT rowlock.create_partitions($1::integer) AS made
