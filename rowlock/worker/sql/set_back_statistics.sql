-- Set the marks of the statistics back, because the server's clock has gone back. $1 the new time
-- Locks: the marks, which the caller has locked already.
UPDATE rowlock.statistic_mark SET until = $1::timestamptz WHERE until > $1::timestamptz
