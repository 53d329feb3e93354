-- Move the marks until which the archive is counted. $1 names text[]   $2 times timestamptz[]
UPDATE rowlock.statistic_mark AS mark
   SET until = greatest(mark.until, given.until)
  FROM unnest($1::text[], $2::timestamptz[]) AS given (name, until)
 WHERE mark.name = given.name
