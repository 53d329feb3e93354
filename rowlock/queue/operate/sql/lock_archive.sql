-- Before an act looks for finished jobs and then changes them: wait for retention here, where nothing is held that
-- retention could wait for. $1 from when, $2 until when they ended. Locks: those partitions, as SELECT … FOR UPDATE does.
SELECT rowlock.lock_archive($1::timestamptz, $2::timestamptz)
