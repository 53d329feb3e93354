-- The columns by which people find a job.
tags, metadata
