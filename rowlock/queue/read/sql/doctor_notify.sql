-- Send a notification to the doctor itself, which listens on another connection. $1 the payload.
SELECT pg_notify('rowlock.doctor', $1::text) IS NULL AS is_sent
