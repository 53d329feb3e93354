-- Log out. $1 the hash of the cookie. Index: api_session_pkey. Locks: the removed row.
DELETE FROM rowlock.api_session WHERE hash = $1::bytea
