-- Send a notification on a channel over a connection that listens to it. $1 the channel   $2 the payload
SELECT pg_notify($1, $2)
