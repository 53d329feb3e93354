-- Before an act looks for finished jobs and then changes them: wait for retention here, where nothing is held that
-- retention could wait for. Locks: the archive, as SELECT … FOR UPDATE does.
LOCK TABLE rowlock.finished_job IN ROW SHARE MODE
