-- Remove what applications left behind that have gone without a word.
DELETE FROM rowlock.waiter WHERE expires_at < now()
