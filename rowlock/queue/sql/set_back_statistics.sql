-- Set the marks of the statistics that lie in the future back: the server's clock has gone back. $1 now   $2 to when
-- Locks: the marks, which the caller holds already.
UPDATE rowlock.statistic_mark SET until = $2::timestamptz WHERE until > $1::timestamptz
