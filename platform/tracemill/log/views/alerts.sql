-- One row for each alert: the rule, what it saw, who was told, whether somebody has taken note, whether it is over.
SELECT
  payload ->> '$.alert_id' AS alert_id,
  payload ->> '$.rule' AS rule,
  any_value(payload ->> '$.severity') FILTER (kind = 'alert.raised') AS severity,
  CASE
    WHEN bool_or(kind = 'alert.resolved') THEN 'resolved'
    WHEN bool_or(kind = 'alert.acknowledged') THEN 'acknowledged'
    ELSE 'open'
  END AS state,  -- Open, acknowledged or resolved.
  any_value(payload ->> '$.message') FILTER (kind = 'alert.raised') AS message,
  any_value(CAST(payload ->> '$.value' AS DOUBLE)) FILTER (kind = 'alert.raised') AS value,  -- What the question gave.
  any_value(payload ->> '$.comparison') FILTER (kind = 'alert.raised') AS comparison,
  any_value(CAST(payload ->> '$.threshold' AS DOUBLE)) FILTER (kind = 'alert.raised') AS threshold,
  min(occurred_at) FILTER (kind = 'alert.raised') AS raised_at,  -- When the value passed the threshold.
  min(occurred_at) FILTER (kind = 'alert.acknowledged') AS acknowledged_at,  -- When somebody took note.
  arg_min(actor, position) FILTER (kind = 'alert.acknowledged') AS acknowledged_by,  -- Who.
  arg_min(payload ->> '$.note', position) FILTER (kind = 'alert.acknowledged') AS note,
  min(occurred_at) FILTER (kind = 'alert.resolved') AS resolved_at,  -- When the value was within it again.
  epoch(min(occurred_at) FILTER (kind = 'alert.resolved') - min(occurred_at) FILTER (kind = 'alert.raised')) AS duration_s,  -- From the one to the other, in seconds.
  count(*) FILTER (kind = 'alert.delivered' AND (payload ->> '$.delivered') = 'true') AS delivered,  -- How often a sink was told.
  count(*) FILTER (kind = 'alert.delivered' AND (payload ->> '$.delivered') = 'false') AS undelivered,  -- How often one could not be.
  list_sort(coalesce(list(DISTINCT payload ->> '$.sink') FILTER (kind = 'alert.delivered' AND (payload ->> '$.delivered') = 'true'), [])) AS sinks,  -- The sinks that know.
  arg_max(payload ->> '$.error_message', position) FILTER (kind = 'alert.delivered') AS last_error  -- Why the last attempt failed that did.
FROM events
WHERE kind IN ('alert.raised', 'alert.delivered', 'alert.acknowledged', 'alert.resolved')
GROUP BY ALL
HAVING bool_or(kind = 'alert.raised')
