-- Whether a job matches a filter; cheap conditions come first. Its parameters are the first ones of each statement that uses
-- it: $1 state   $2 queues text[]   $3 task   $4 only ids above this one, and $5 below this one (both are needed; the statement
-- compares them itself, for its index)   $6 created longer ago than   $7 not longer ago than   $8 text in the error
-- $9 JSON text that the arguments contain   $10 whether discarded   $11 its marks (JSON text: `tag`, one of its tags;
-- `metadata`, contained in its own)   $12 patterns of a text in the arguments text[]   $13 created at or after
-- $14 created before   $15 not of these tasks text[]   $16 an error of the same kind, '' for none. Any but the ids may be null.
    ($1::text IS NULL OR state = $1::text)
AND ($2::text[] IS NULL OR queue = ANY($2::text[]))
AND ($3::text IS NULL OR task = $3::text)
AND ($6::interval IS NULL OR created_at < now() - $6::interval)
AND ($7::interval IS NULL OR created_at >= now() - $7::interval)
AND ($11::text::jsonb ->> 'tag' IS NULL OR $11::text::jsonb ->> 'tag' = ANY(tags))  -- seam: tag
AND ($11::text::jsonb -> 'metadata' IS NULL OR metadata @> ($11::text::jsonb -> 'metadata'))
AND ($13::timestamptz IS NULL OR created_at >= $13::timestamptz)
AND ($14::timestamptz IS NULL OR created_at < $14::timestamptz)
AND ($15::text[] IS NULL OR task <> ALL($15::text[]))
AND ($10::boolean IS NULL OR (discarded_at IS NOT NULL) = $10::boolean)
AND ($8::text IS NULL OR strpos(error, $8::text) > 0)
AND ($16::text IS NULL OR rowlock.error_kind(error) = rowlock.error_kind($16::text))
AND ($9::text IS NULL OR args @> $9::text::jsonb)
AND ($12::text[] IS NULL OR lower(args::text) LIKE ANY(ARRAY(SELECT lower(text) FROM unnest($12::text[]) AS text)))
