-- Set the marks of the statistics back: the server's clock has gone back. $1 to when
-- Locks: the marks, which the caller holds already.
UPDATE rowlock.statistic_mark SET until = $1::timestamptz WHERE until > $1::timestamptz
