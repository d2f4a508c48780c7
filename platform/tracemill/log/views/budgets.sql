-- The budgets that hold now, and what this window's calls have taken; `tracemill budgets ls` also tells what is reserved.
WITH
  told AS (
    SELECT payload ->> '$.name' AS name, arg_max(kind, position) AS kind, arg_max(payload, position) AS payload
    FROM events
    WHERE kind IN ('budget.set', 'budget.removed')
    GROUP BY ALL
  ),
  held AS (
    SELECT
      name,
      payload ->> '$.scope' AS scope,
      payload ->> '$.of' AS wanted,
      payload ->> '$.window' AS span,
      coalesce(payload ->> '$.action', 'refuse') AS action,
      CAST(payload ->> '$.requests' AS BIGINT) AS requests,
      CAST(payload ->> '$.tokens' AS BIGINT) AS tokens,
      CAST(payload ->> '$.usd' AS DECIMAL(18, 9)) AS usd,
      date_trunc(span, CAST(now() AT TIME ZONE 'UTC' AS TIMESTAMP)) AS window_from
    FROM told
    WHERE kind = 'budget.set'
  ),
  teams AS (
    SELECT key_id, any_value(payload ->> '$.team') AS team
    FROM events
    WHERE kind = 'key.created'
    GROUP BY key_id
  ),
  ended AS (
    SELECT
      kind, occurred_at, key_id, user_id, metadata, attempts, cost_usd,
      coalesce(input_tokens, 0) + coalesce(output_tokens, 0) AS taken
    FROM events
    WHERE is_end(kind) AND occurred_at >= (SELECT min(window_from) FROM held)
  ),
  counted AS (
    SELECT
      held.name,
      CASE scope
        WHEN 'key' THEN ended.key_id
        WHEN 'user' THEN user_id
        WHEN 'team' THEN team
        WHEN 'tag' THEN split_part(wanted, '=', 1) || '=' || (metadata ->> ('$."' || split_part(wanted, '=', 1) || '"'))
      END AS who,
      ended.*
    FROM held
    JOIN ended ON ended.occurred_at >= held.window_from
    LEFT JOIN teams ON teams.key_id = ended.key_id
    WHERE scope = 'everything' OR (
      who IS NOT NULL
      AND CASE WHEN scope = 'tag' AND ends_with(wanted, '=*') THEN true ELSE wanted IN ('*', who) END)
  ),
  sums AS (
    SELECT
      name,
      who,
      count(*) FILTER (attempts IS DISTINCT FROM 0) AS requests,
      sum(taken)::BIGINT AS tokens,
      coalesce(sum(cost_usd), 0)::DECIMAL(38, 9) AS usd,
      count(*) FILTER (kind IN ('llm.call.finished', 'llm.call.aborted') AND cost_usd IS NULL AND taken > 0) AS unpriced
    FROM counted
    GROUP BY name, who
  )
SELECT
  held.name,
  scope,
  -- Of a budget that each has apart there is a row for each that was seen.
  coalesce(who, wanted) AS of,
  span AS window_kind,  -- Minute, hour, day or month of the calendar in UTC.
  action,
  held.requests,
  coalesce(sums.requests, 0) AS spent_requests,  -- Calls that ended in this window; those that failed before anything was sent are none.
  held.tokens,
  coalesce(sums.tokens, 0) AS spent_tokens,  -- Read and written by them.
  held.usd,
  coalesce(sums.usd, 0) AS spent_usd,  -- As recorded when they were made.
  coalesce(unpriced, 0) AS unpriced,  -- Calls without a known price: they count no dollars.
  window_from,  -- This window began then.
  window_from + CASE span
    WHEN 'minute' THEN INTERVAL 1 MINUTE
    WHEN 'hour' THEN INTERVAL 1 HOUR
    WHEN 'day' THEN INTERVAL 1 DAY
    ELSE INTERVAL 1 MONTH
  END AS resets_at  -- It ends then, and the count begins anew.
FROM held
LEFT JOIN sums USING (name)
