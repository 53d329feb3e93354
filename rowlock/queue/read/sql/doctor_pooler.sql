-- Describe the session in which this runs: which process of the server it is, and whether it knows prepared statements by
-- the names that a connection behind a pooler gives them. A pooler that keeps account of them has names of its own.
SELECT pg_backend_pid() AS process,
       EXISTS (SELECT FROM pg_prepared_statements WHERE name LIKE 'rowlock\_stmt\_%') AS has_given_names
