-- Keep only these jobs in the rows of long claims most of whose jobs have ended: what runs is found by reading them.
--
-- $1 the worker   $2 the numbers of the claims bigint[]   $3 the jobs to keep uuid[], and $4 the claim of each bigint[]
-- Index: holding_pkey. Locks: the rows that it changes.
UPDATE rowlock.holding
   SET ids = ARRAY(SELECT kept.id FROM unnest($3::uuid[], $4::bigint[]) AS kept (id, number) WHERE kept.number = holding.number)
 WHERE worker = $1::uuid
   AND number = ANY($2::bigint[])
