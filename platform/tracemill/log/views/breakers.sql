-- The circuit breaker of each model as it was last heard of, and how often it has opened.
SELECT
  provider,
  request_model,
  arg_max(payload ->> '$.state', position) AS state,  -- The last that was heard of: open, half_open or closed.
  arg_max(payload ->> '$.reason', position) AS reason,
  max(occurred_at) AS changed_at,  -- When it last changed.
  count(*) FILTER ((payload ->> '$.state') = 'open') AS opened,  -- How often it opened.
  max(occurred_at) FILTER ((payload ->> '$.state') = 'open') AS last_opened_at  -- When it last opened.
FROM events
WHERE kind = 'llm.breaker.changed'
GROUP BY provider, request_model
