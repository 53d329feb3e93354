-- The keys of the HTTP API. Only a key's hash is stored: SHA-256 of 256 random bits, which nobody can enumerate,
-- so a salt or a slow hash would add nothing. Keys that have ended stay for a while, and the newest for ever:
-- an API that once had a key is never open again.
CREATE TABLE rowlock.api_key (
    id           uuid NOT NULL DEFAULT rowlock.uuid7(),
    name         text COLLATE "C" NOT NULL,
    hash         bytea NOT NULL,
    scopes       text[] NOT NULL,
    queues       text[],
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by   text,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    CONSTRAINT api_key_pkey PRIMARY KEY (id),
    CONSTRAINT api_key_hash UNIQUE (hash),
    CONSTRAINT api_key_hash_is_sha256 CHECK (octet_length(hash) = 32),
    CONSTRAINT api_key_scopes CHECK (scopes <@ ARRAY['read', 'enqueue', 'operate', 'admin'] AND cardinality(scopes) > 0),
    CONSTRAINT api_key_queues CHECK (cardinality(queues) > 0),
    CONSTRAINT api_key_times_are_readable CHECK (
        greatest(created_at, expires_at, revoked_at, last_used_at) < '9999-12-31 00:00:00+00'
        AND least(created_at, expires_at, revoked_at, last_used_at) >= '0001-01-02 00:00:00+00'
    )
) WITH (fillfactor = 80)
--;
-- The audit names the key: no two keys have the same name at a time.
CREATE UNIQUE INDEX api_key_name ON rowlock.api_key (name) WHERE revoked_at IS NULL
--;
-- Sessions of the dashboard: the hash of the cookie, and the key that began it.
CREATE TABLE rowlock.api_session (
    hash       bytea NOT NULL,
    key_id     uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT api_session_pkey PRIMARY KEY (hash),
    CONSTRAINT api_session_key FOREIGN KEY (key_id) REFERENCES rowlock.api_key (id) ON DELETE CASCADE,
    CONSTRAINT api_session_times_are_readable CHECK (
        greatest(created_at, expires_at) < '9999-12-31 00:00:00+00'
        AND least(created_at, expires_at) >= '0001-01-02 00:00:00+00'
    )
)
--;
CREATE INDEX api_session_key_id ON rowlock.api_session (key_id)
--;
CREATE INDEX api_session_expires_at ON rowlock.api_session (expires_at)
