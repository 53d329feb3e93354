-- Remove the expired waiters: their applications ended without removing them.
DELETE FROM rowlock.waiter WHERE expires_at < now()
