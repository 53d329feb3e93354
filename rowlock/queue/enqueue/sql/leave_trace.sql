-- Make the commit of this transaction wait for the synchronous standby, even if it writes nothing else. No locks.
SELECT rowlock.leave_trace()
