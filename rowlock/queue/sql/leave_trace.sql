-- Write something, so that the commit waits for the synchronous standby, if there is one. No parameters, no locks.
--
-- A commit that has written nothing does not wait, and may report as stored what the standby has not got yet: a commit
-- whose wait was given up is visible on the primary all the same.
SELECT pg_logical_emit_message(true, 'rowlock', '')
