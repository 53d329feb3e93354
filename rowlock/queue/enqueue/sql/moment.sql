-- The time from which the jobs of a COPY in this transaction are due: first the transaction's id, then the clock.
SELECT clock_timestamp() AS now WHERE pg_current_xact_id() IS NOT NULL
