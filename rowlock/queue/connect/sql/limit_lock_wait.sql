-- Limit how long the statements of this transaction wait for a lock. $1 a value of lock_timeout. Locks: none.
SELECT set_config('lock_timeout', $1::text, true)
