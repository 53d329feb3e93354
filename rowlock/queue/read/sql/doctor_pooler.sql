-- Describe the session in which this runs: its server process, and whether it has prepared statements with
-- the names that a connection behind a pooler gives them. A pooler that tracks them uses names of its own.
SELECT pg_backend_pid() AS process,
       EXISTS (SELECT FROM pg_prepared_statements WHERE name LIKE 'rowlock\_stmt\_%') AS has_given_names
