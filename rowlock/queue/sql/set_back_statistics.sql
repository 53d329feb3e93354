-- Set the marks of the statistics back to $1, where they lie in the future: the server's clock has gone back.
-- Locks: the marks, which the caller holds already.
UPDATE rowlock.statistic_mark SET until = $1::timestamptz WHERE until > $1::timestamptz
