-- Plan the rest of this transaction like Rowlock's own connections. $1 settings text[]   $2 values text[]
SELECT set_config(name, value, true) FROM unnest($1::text[], $2::text[]) AS given (name, value)
