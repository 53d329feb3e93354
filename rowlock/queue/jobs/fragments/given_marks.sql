-- A job's marks as columns, from `marks`: its given marks as JSON text, or null.
SELECT {{job_marks}} FROM jsonb_populate_record(NULL::rowlock.job, marks::jsonb)
