-- The virtual keys: whose they are, what they may be used for, and what was done with them.
WITH
  told AS (
    SELECT
      any_value(payload) FILTER (kind = 'key.created') AS made,
      key_id,
      any_value(user_id) FILTER (kind = 'key.created') AS user_id,
      min(occurred_at) FILTER (kind = 'key.created') AS created_at,
      max(occurred_at) FILTER (kind = 'key.rotated') AS rotated_at,
      min(occurred_at) FILTER (kind = 'key.revoked') AS revoked_at
    FROM events
    WHERE kind IN ('key.created', 'key.rotated', 'key.revoked')
    GROUP BY key_id
  ),
  used AS (
    SELECT key_id, count(*) AS calls, max(occurred_at) AS last_used_at
    FROM events
    WHERE is_end(kind) AND key_id IS NOT NULL
    GROUP BY key_id
  )
SELECT
  key_id,  -- The public part of the key.
  made ->> '$.name' AS name,
  CASE
    WHEN revoked_at IS NOT NULL THEN 'revoked'
    WHEN CAST(made ->> '$.expires_at' AS TIMESTAMPTZ) <= now() THEN 'expired'
    ELSE 'active'
  END AS state,  -- Active, expired or revoked.
  made ->> '$.team' AS team,
  user_id,
  CAST(made -> '$.models' AS VARCHAR[]) AS models,
  CAST(made -> '$.routes' AS VARCHAR[]) AS routes,
  CAST(made -> '$.tags' AS VARCHAR) AS tags,
  CAST(made ->> '$.admin' AS BOOLEAN) AS admin,
  created_at,  -- When it was made.
  rotated_at,  -- When it last got a new secret.
  CAST(CAST(made ->> '$.expires_at' AS TIMESTAMPTZ) AT TIME ZONE 'UTC' AS TIMESTAMP) AS expires_at,
  revoked_at,  -- From then on it is refused.
  coalesce(calls, 0) AS calls,  -- Calls that ended, made with it.
  last_used_at  -- When the last of them ended.
FROM told
LEFT JOIN used USING (key_id)
WHERE made IS NOT NULL
