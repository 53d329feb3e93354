-- Say something on a channel over a connection that listens there itself. $1 the channel   $2 what to say
SELECT pg_notify($1, $2)
