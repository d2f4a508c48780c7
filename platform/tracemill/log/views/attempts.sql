-- One row for each attempt that failed and was followed by another, in its call.
SELECT
  substr(stream, 6) AS call_id,
  TRY_CAST(payload ->> '$.attempt' AS BIGINT) AS attempt,
  occurred_at AS failed_at,  -- When the attempt failed.
  provider,
  request_model,
  error_type,
  payload ->> '$.error_message' AS error_message,
  TRY_CAST(payload ->> '$.status' AS INTEGER) AS http_status,  -- Of the answer, where there was one.
  latency_ms,
  TRY_CAST(payload ->> '$.wait_ms' AS DOUBLE) AS wait_ms
FROM events
WHERE kind = 'llm.call.retried'
