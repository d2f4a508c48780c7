-- One row for each conversation: how many calls it took, what of, how it ended.
SELECT
  conversation_id,
  count(*) AS calls,  -- Calls that ended.
  count(*) FILTER (
    kind IN ('llm.call.failed', 'llm.call.crashed') OR (kind = 'llm.call.aborted' AND error_type <> 'interrupted')
  ) AS failed,  -- Those without a whole answer; not those that their reader stopped.
  count(*) FILTER (kind = 'llm.call.cached') AS cached,  -- Those that the response cache answered.
  min(user_id) AS user_id,
  count(DISTINCT user_id) AS users,  -- How many users; more than one is seldom meant.
  list_sort(list(DISTINCT request_model)) AS models,  -- The models that were asked.
  min(occurred_at) AS first_at,  -- End of the first call.
  max(occurred_at) AS last_at,  -- End of the last call.
  coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
  coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
  coalesce(sum(cost_usd), 0) AS cost_usd,  -- As recorded when the calls were made.
  count(*) FILTER (kind IN ('llm.call.finished', 'llm.call.aborted') AND cost_usd IS NULL) AS unpriced,  -- Calls without a recorded price.
  sum(latency_ms) AS latency_ms,  -- Time spent in calls, in milliseconds.
  arg_max(substr(kind, 10), position) AS last_status  -- What became of the last call.
FROM events
WHERE conversation_id IS NOT NULL AND is_end(kind)
GROUP BY conversation_id
