-- Let no statement of this transaction wait longer for a lock. $1 how long, as lock_timeout has it. Locks: none.
SELECT set_config('lock_timeout', $1::text, true)
