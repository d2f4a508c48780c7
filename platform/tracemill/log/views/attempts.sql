-- One row for each attempt that failed and was followed by another, in its call.
SELECT
  call_id,
  TRY_CAST(payload ->> '$.attempt' AS BIGINT) AS attempt,
  occurred_at AS failed_at,  -- When the attempt failed.
  provider,
  request_model,
  error_type,
  error_message,
  status AS http_status,  -- Of the answer, where there was one.
  latency_ms,
  wait_ms
FROM events
WHERE kind = 'llm.call.retried'
