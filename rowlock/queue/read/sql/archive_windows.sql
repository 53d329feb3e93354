-- The archive in windows of a bounded number of partitions, newest first: from when, and until when. No parameters.
-- Reads only the catalog.
SELECT low, high FROM rowlock.archive_windows('finished_job')
