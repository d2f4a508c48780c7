-- One row for each model call: what was asked, what came of it, what it took.
SELECT
  ended.call_id,
  coalesce(started.occurred_at, ended.occurred_at) AS started_at,  -- When the request was about to leave.
  ended.occurred_at AS ended_at,  -- When it came to its end; NULL while it runs.
  substr(ended.kind, 10) AS status,  -- Running, finished, failed, aborted (a stream that was cut), crashed (its process is gone) or cached.
  coalesce(ended.operation, started.operation) AS operation,
  ended.provider,
  ended.request_model,
  ended.response_model,
  ended.input_tokens,
  ended.output_tokens,
  ended.cache_read_input_tokens,
  ended.cache_write_input_tokens,
  ended.cache_write_1h_input_tokens,
  ended.reasoning_output_tokens,
  ended.input_audio_tokens,
  ended.cache_read_audio_tokens,
  ended.output_audio_tokens,
  ended.usage_estimated,
  coalesce(ended.service_tier, started.service_tier) AS service_tier,
  ended.cost_usd,
  ended.saved_usd,
  ended.latency_ms,
  ended.time_to_first_chunk_ms,
  CASE ended.kind WHEN 'llm.call.cached' THEN 0 ELSE ended.attempts END AS attempts,  -- How many requests were sent; NULL while it runs or where it crashed.
  ended.finish_reason,
  CASE ended.kind WHEN 'llm.call.crashed' THEN 'crashed' ELSE ended.error_type END AS error_type,  -- Why there is no whole answer: the provider's class of error, `interrupted`, or `crashed`.
  CASE WHEN ended.kind <> 'llm.call.finished' THEN ended.error_message END AS error_message,
  ended.payload ->> '$.error_code' AS error_code,
  ended.status AS http_status,  -- Of the answer that failed, where there was one.
  ended.payload ->> '$.request_id' AS request_id,
  ended.payload ->> '$.response_id' AS response_id,
  ended.conversation_id,
  ended.user_id,
  ended.prompt_name,
  ended.prompt_version,
  ended.key_id,
  coalesce(CAST(started.payload ->> '$.streamed' AS BOOLEAN), false) AS streamed,
  started.payload ->> '$.fallback_of' AS fallback_of,
  started.payload ->> '$.batch_id' AS batch_id,
  ended.payload ->> '$.cached_call_id' AS cached_call_id,
  -- Before ends carried tags, only starts had them.
  coalesce(ended.metadata, started.metadata) AS metadata,
  prompt_of(coalesce(started.payload, ended.payload) -> '$.messages') AS prompt,  -- The text of the last user message.
  coalesce(text_of(ended.payload -> '$.content'), ended.payload ->> '$.text') AS answer,  -- The text that came back.
  ended.payload ->> '$.refusal' AS refusal
FROM events AS started
RIGHT JOIN (
  SELECT * FROM events WHERE is_end(kind)
) AS ended
  -- Both sides stand in the second condition, or DuckDB would hold every start in memory for a few ends.
  ON started.call_id = ended.call_id AND started.kind = CASE WHEN ended.kind IS NOT NULL THEN 'llm.call.started' END
UNION ALL BY NAME
SELECT
  call_id,
  occurred_at AS started_at,
  'running' AS status,
  operation,
  provider,
  request_model,
  service_tier,
  conversation_id,
  user_id,
  prompt_name,
  prompt_version,
  key_id,
  coalesce(CAST(payload ->> '$.streamed' AS BOOLEAN), false) AS streamed,
  payload ->> '$.fallback_of' AS fallback_of,
  payload ->> '$.batch_id' AS batch_id,
  metadata,
  prompt_of(payload -> '$.messages') AS prompt
FROM (SELECT * FROM events WHERE kind = 'llm.call.started') AS started
SEMI JOIN (
  SELECT position FROM open_calls WHERE kind = 'llm.call.started'
  AND call_id NOT IN (SELECT call_id FROM open_calls WHERE kind = 'ended')
) AS running USING (position)
