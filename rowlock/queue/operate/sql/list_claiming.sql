-- The transactions that are claiming now: only a claim reads the table `queue` and writes to the table `job`. Once the
-- claims that were in flight when a pause committed have ended, every claim sees the pause.
--
-- No parameters. Returns the transactions' virtual ids. Takes no lock.
SELECT held.virtualtransaction AS transaction
  FROM pg_locks AS held
 WHERE held.locktype = 'relation'
   AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND held.pid <> pg_backend_pid()
   AND (held.relation, held.mode) IN (
       ('rowlock.queue'::regclass, 'AccessShareLock'), ('rowlock.job'::regclass, 'RowExclusiveLock')
       )
 GROUP BY held.virtualtransaction
HAVING count(*) = 2
