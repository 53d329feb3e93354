-- The marks of a job as columns, from `marks`: those that it has as JSON text, or null.
SELECT {{job_marks}} FROM jsonb_populate_record(NULL::rowlock.job, marks::jsonb)
