-- Have the commit of this transaction wait for the synchronous standby, although nothing else may be written. No locks.
SELECT rowlock.leave_trace()
