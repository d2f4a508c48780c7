-- What each model cost, day by day (UTC); `unpriced` counts answers whose model has no known price.
SELECT
  CAST(occurred_at AS DATE) AS day,  -- Of the end of the calls, in UTC.
  provider,
  request_model,
  count(*) AS calls,  -- Calls that ended, failed ones included.
  count(*) FILTER (kind = 'llm.call.failed') AS failed,  -- Calls that ended without an answer.
  coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
  coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
  coalesce(sum(cost_usd), 0) AS cost_usd,
  count(*) FILTER (kind = 'llm.call.finished' AND cost_usd IS NULL) AS unpriced  -- Answers whose model has no known price.
FROM events
WHERE kind IN ('llm.call.finished', 'llm.call.failed')
GROUP BY ALL
