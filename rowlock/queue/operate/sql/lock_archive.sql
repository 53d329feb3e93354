-- Wait for retention before an act searches for finished jobs and changes them: at this point the act holds no lock that
-- retention could wait for. $1 from when, $2 until when they ended. Locks: those partitions, as SELECT … FOR UPDATE does.
SELECT rowlock.lock_archive($1::timestamptz, $2::timestamptz)
