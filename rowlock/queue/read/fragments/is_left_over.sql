-- Whether an expired key was left for longer than upkeep may leave it ($2), although the duty 'keys' has run and a worker has
-- lived since.
    expires_at + $2::interval < (SELECT least(set_at, now()) FROM rowlock.duty WHERE name = 'keys')
AND EXISTS (
    SELECT FROM rowlock.worker WHERE worker.expires_at > now() AND worker.started_at < now() - $2::interval
)
