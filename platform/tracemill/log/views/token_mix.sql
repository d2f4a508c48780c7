-- What tokens were of, day by day and model: read fresh, from a cache, into a cache; written as thought or as answer.
SELECT
  CAST(occurred_at AS DATE) AS day,  -- Of the end of the calls, in UTC.
  provider,
  request_model,
  count(*) AS calls,  -- Calls that took tokens.
  count(*) FILTER (usage_estimated) AS estimated,  -- Those whose tokens were counted here, for the provider told none.
  coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
  coalesce(sum(greatest(input_tokens - cache_read_input_tokens - cache_write_input_tokens, 0)), 0)::BIGINT AS input_uncached_tokens,  -- Read, neither from the provider's cache nor into it.
  coalesce(sum(cache_read_input_tokens), 0)::BIGINT AS cache_read_input_tokens,
  coalesce(sum(cache_write_input_tokens), 0)::BIGINT AS cache_write_input_tokens,
  coalesce(sum(input_audio_tokens), 0)::BIGINT AS input_audio_tokens,
  coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
  coalesce(sum(reasoning_output_tokens), 0)::BIGINT AS reasoning_output_tokens,
  coalesce(sum(output_audio_tokens), 0)::BIGINT AS output_audio_tokens,
  sum(output_tokens) / nullif(sum(input_tokens), 0) AS output_by_input,  -- Tokens written for each that was read.
  sum(cache_read_input_tokens) / nullif(sum(input_tokens), 0) AS cache_read_share,  -- Of what was read, the share from the provider's cache.
  sum(reasoning_output_tokens) / nullif(sum(output_tokens), 0) AS reasoning_share,  -- Of what was written, the share that was thought.
  avg(input_tokens) AS mean_input_tokens,  -- Read by a call, on average.
  avg(output_tokens) AS mean_output_tokens,  -- Written by a call, on average.
  1 - count(*) FILTER (usage_estimated) / count(*) AS known_share  -- Share of the calls whose tokens the provider told.
FROM events
WHERE kind IN ('llm.call.finished', 'llm.call.aborted')
GROUP BY ALL
