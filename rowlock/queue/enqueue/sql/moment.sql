-- The moment from which a COPY of jobs in this transaction is due: first the transaction's id, then the clock.
SELECT clock_timestamp() AS now WHERE pg_current_xact_id() IS NOT NULL
