-- The columns by which users find a job.
tags, metadata
