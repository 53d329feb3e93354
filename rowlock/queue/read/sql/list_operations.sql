-- A page of the operations, newest first. Each filter may be null.
--
-- $1 the verb   $2 the kind of target   $3 the target   $4 only ids below this one (the last of the previous page)   $5 how many
-- Index: operation_pkey, or operation_target.
SELECT id, at, verb, target_kind, target, by, source, details
  FROM rowlock.operation
 WHERE ($1::text IS NULL OR verb = $1::text)
   AND ($2::text IS NULL OR target_kind = $2::text)
   AND ($3::text IS NULL OR target = $3::text)
   AND ($4::uuid IS NULL OR id < $4::uuid)
 ORDER BY id DESC
 LIMIT $5::integer
