-- Whether a key was ever created, and whether one is valid. Index: none; there are few keys.
SELECT EXISTS (SELECT FROM rowlock.api_key) AS had_any,
       EXISTS (
           SELECT FROM rowlock.api_key WHERE revoked_at IS NULL AND coalesce(expires_at > now(), true)
       ) AS is_any_active
