-- The archive in windows of a bounded number of partitions, newest first: from when, and until when. No parameters.
-- Reads the catalog alone.
SELECT low, high FROM rowlock.archive_windows('finished_job')
