-- One row for each model call: what was asked, what came of it, what it took.
SELECT
  substr(coalesce(ended.stream, started.stream), 6) AS call_id,
  coalesce(started.occurred_at, ended.occurred_at) AS started_at,  -- When the request was about to leave.
  ended.occurred_at AS ended_at,  -- When it was answered or failed; NULL while it runs.
  CASE ended.kind
    WHEN 'llm.call.finished' THEN 'finished'
    WHEN 'llm.call.failed' THEN 'failed'
    ELSE 'running'
  END AS status,  -- Running, finished or failed.
  coalesce(ended.payload, started.payload) ->> '$.operation' AS operation,
  coalesce(ended.provider, started.provider) AS provider,
  coalesce(ended.request_model, started.request_model) AS request_model,
  ended.payload ->> '$.response_model' AS response_model,
  ended.input_tokens,
  ended.output_tokens,
  ended.cache_read_input_tokens,
  ended.cache_write_input_tokens,
  ended.cost_usd,
  ended.latency_ms,
  ended.error_type,
  ended.payload ->> '$.error_message' AS error_message,
  coalesce(ended.conversation_id, started.conversation_id) AS conversation_id,
  coalesce(ended.user_id, started.user_id) AS user_id,
  started.payload ->> '$.messages[#-1].content' AS prompt,  -- The last message that was sent.
  ended.payload ->> '$.text' AS answer  -- The text that came back.
FROM (SELECT * FROM events WHERE kind = 'llm.call.started') AS started
FULL JOIN (
  SELECT * FROM events WHERE kind IN ('llm.call.finished', 'llm.call.failed')
) AS ended USING (stream)
