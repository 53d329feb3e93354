-- The missing partitions of the archive: today's, those of the next $1 days, and those of rows in a default partition.
-- Reads the catalog, and up to 100,000 rows of each default partition. Locks nothing.
SELECT archive, day FROM rowlock.missing_partitions($1::integer)
