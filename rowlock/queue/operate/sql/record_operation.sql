-- Record an act, for the audit: run it in the transaction of the act. With an existing id, it updates only the details: an
-- act in several transactions is one operation, and each transaction adds to it.
--
-- $1 the verb, as everywhere (`cancel`, `pause`, …)   $2 the kind of the target (`job`, `schedule`, `queue`, …)
-- $3 the target's id or name; null for an act on many   $4 by whom, if known
-- $5 from where: `python`, `cli`, `http` or `sql`   $6 details (JSON text)   $7 the operation's id, or null for a new one
--
-- Returns the operation's id. Index: operation_pkey. Locks: its own row.
INSERT INTO rowlock.operation (id, verb, target_kind, target, by, source, details)
VALUES (coalesce($7::uuid, rowlock.uuid7()), $1::text, $2::text, $3::text, $4::text, $5::text, $6::text::jsonb)
ON CONFLICT (id) DO UPDATE SET details = EXCLUDED.details
RETURNING id
