-- How many calls ended, by day, model, kind of end and class of error; with their tokens.
SELECT
  CAST(occurred_at AS DATE) AS day,
  provider,
  request_model,
  kind,
  CASE
    WHEN kind = 'llm.call.crashed' THEN 'crashed'
    WHEN kind = 'llm.call.failed' OR (kind = 'llm.call.aborted' AND error_type <> 'interrupted') THEN error_type
  END AS class,
  count(*) AS calls,
  count(*) FILTER (usage_estimated) AS estimated,
  count(input_tokens) AS told_input,
  count(output_tokens) AS told_output,
  sum(input_tokens)::BIGINT AS input_tokens,
  sum(greatest(input_tokens - cache_read_input_tokens - cache_write_input_tokens, 0))::BIGINT AS input_uncached,
  sum(cache_read_input_tokens)::BIGINT AS cache_read,
  sum(cache_write_input_tokens)::BIGINT AS cache_write,
  sum(input_audio_tokens)::BIGINT AS input_audio,
  sum(output_tokens)::BIGINT AS output_tokens,
  sum(reasoning_output_tokens)::BIGINT AS reasoning,
  sum(output_audio_tokens)::BIGINT AS output_audio
FROM unsummed
WHERE is_end(kind)
GROUP BY ALL
