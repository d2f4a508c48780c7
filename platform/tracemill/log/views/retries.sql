-- What retrying took, by model and class of error: how many attempts failed, how long calls waited, and whether they got through.
SELECT
  retried.provider,
  retried.request_model,
  retried.error_type,
  retried.status AS http_status,  -- Of the attempts that failed.
  count(*) AS retries,  -- Attempts that failed and were followed by another.
  count(DISTINCT retried.call_id) AS calls,  -- Calls that they belong to.
  count(DISTINCT retried.call_id) FILTER (ended.kind = 'llm.call.finished') AS recovered,  -- Calls among them that were answered in the end.
  count(DISTINCT retried.call_id) FILTER (ended.kind IN ('llm.call.failed', 'llm.call.aborted')) AS lost,  -- Calls among them that were not.
  sum(retried.wait_ms) AS waited_ms,  -- Spent waiting for the next attempt, in milliseconds.
  sum(retried.latency_ms) AS spent_ms,  -- Spent in the attempts that failed, in milliseconds.
  max(retried.occurred_at) AS last_at  -- When the last of them failed.
FROM (
  SELECT call_id, kind FROM events WHERE kind IN ('llm.call.finished', 'llm.call.failed', 'llm.call.aborted')
) AS ended
RIGHT JOIN (SELECT * FROM events WHERE kind = 'llm.call.retried') AS retried USING (call_id)
GROUP BY ALL
