-- One row for each model call: what was asked, what came of it, what it took.
SELECT
  substr(coalesce(ended.stream, started.stream), 6) AS call_id,
  coalesce(started.occurred_at, ended.occurred_at) AS started_at,  -- When the request was about to leave.
  ended.occurred_at AS ended_at,  -- When it came to its end; NULL while it runs.
  coalesce(substr(ended.kind, 10), 'running') AS status,  -- Running, finished, failed, aborted (a stream that was cut), crashed (its process is gone) or cached.
  coalesce(ended.payload, started.payload) ->> '$.operation' AS operation,
  coalesce(ended.provider, started.provider) AS provider,
  coalesce(ended.request_model, started.request_model) AS request_model,
  ended.payload ->> '$.response_model' AS response_model,
  ended.input_tokens,
  ended.output_tokens,
  ended.cache_read_input_tokens,
  ended.cache_write_input_tokens,
  ended.cache_write_1h_input_tokens,
  ended.reasoning_output_tokens,
  ended.input_audio_tokens,
  ended.cache_read_audio_tokens,
  ended.output_audio_tokens,
  TRY_CAST(ended.payload ->> '$.usage.estimated' AS BOOLEAN) AS usage_estimated,  -- True where the provider gave no counts and ours stand in.
  coalesce(ended.service_tier, started.service_tier) AS service_tier,
  ended.cost_usd,
  TRY_CAST(ended.payload ->> '$.saved_usd' AS DECIMAL(18, 9)) AS saved_usd,
  ended.latency_ms,
  TRY_CAST(ended.payload ->> '$.time_to_first_chunk_ms' AS DOUBLE) AS time_to_first_chunk_ms,
  CASE
    WHEN ended.kind IN ('llm.call.finished', 'llm.call.failed', 'llm.call.aborted')
    THEN coalesce(TRY_CAST(ended.payload ->> '$.attempts' AS BIGINT), 1)
    WHEN ended.kind = 'llm.call.cached' THEN 0
  END AS attempts,  -- How many requests were sent; NULL while it runs or where it crashed.
  ended.payload ->> '$.finish_reasons[0]' AS finish_reason,  -- Why the model stopped.
  CASE ended.kind WHEN 'llm.call.crashed' THEN 'crashed' ELSE ended.error_type END AS error_type,  -- Why there is no whole answer: the provider's class of error, `interrupted`, or `crashed`.
  ended.payload ->> '$.error_message' AS error_message,
  ended.payload ->> '$.error_code' AS error_code,
  TRY_CAST(ended.payload ->> '$.status' AS INTEGER) AS http_status,  -- Of the answer that failed, where there was one.
  ended.payload ->> '$.request_id' AS request_id,
  ended.payload ->> '$.response_id' AS response_id,
  coalesce(ended.conversation_id, started.conversation_id) AS conversation_id,
  coalesce(ended.user_id, started.user_id) AS user_id,
  coalesce(ended.prompt_name, started.prompt_name) AS prompt_name,
  coalesce(ended.prompt_version, started.prompt_version) AS prompt_version,
  coalesce(CAST(started.payload ->> '$.streamed' AS BOOLEAN), false) AS streamed,
  started.payload ->> '$.fallback_of' AS fallback_of,
  started.payload ->> '$.batch_id' AS batch_id,
  ended.payload ->> '$.cached_call_id' AS cached_call_id,
  coalesce(started.payload, ended.payload) -> '$.metadata' AS metadata,
  prompt_of(coalesce(started.payload, ended.payload) -> '$.messages') AS prompt,  -- The text of the last user message.
  coalesce(text_of(ended.payload -> '$.content'), ended.payload ->> '$.text') AS answer,  -- The text that came back.
  ended.payload ->> '$.refusal' AS refusal
FROM (SELECT * FROM events WHERE kind = 'llm.call.started') AS started
FULL JOIN (
  SELECT * FROM events WHERE kind IN (
    'llm.call.finished', 'llm.call.failed', 'llm.call.aborted', 'llm.call.crashed', 'llm.call.cached')
) AS ended USING (stream)
