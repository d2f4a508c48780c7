-- What tokens were of, day by day and model: read fresh, from a cache, into a cache; written as thought or as answer.
SELECT
  day,  -- Of the end of the calls, in UTC.
  provider,
  request_model,
  sum(calls)::BIGINT AS calls,  -- Calls that took tokens.
  sum(estimated)::BIGINT AS estimated,  -- Those whose tokens were counted here, for the provider told none.
  coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
  coalesce(sum(input_uncached), 0)::BIGINT AS input_uncached_tokens,  -- Read, neither from the provider's cache nor into it.
  coalesce(sum(cache_read), 0)::BIGINT AS cache_read_input_tokens,
  coalesce(sum(cache_write), 0)::BIGINT AS cache_write_input_tokens,
  coalesce(sum(input_audio), 0)::BIGINT AS input_audio_tokens,
  coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
  coalesce(sum(reasoning), 0)::BIGINT AS reasoning_output_tokens,
  coalesce(sum(output_audio), 0)::BIGINT AS output_audio_tokens,
  sum(output_tokens) / nullif(sum(input_tokens), 0) AS output_by_input,  -- Tokens written for each that was read.
  sum(cache_read) / nullif(sum(input_tokens), 0) AS cache_read_share,  -- Of what was read, the share from the provider's cache.
  sum(reasoning) / nullif(sum(output_tokens), 0) AS reasoning_share,  -- Of what was written, the share that was thought.
  sum(input_tokens) / nullif(sum(told_input), 0) AS mean_input_tokens,  -- Read by a call, on average.
  sum(output_tokens) / nullif(sum(told_output), 0) AS mean_output_tokens,  -- Written by a call, on average.
  1 - sum(estimated) / sum(calls) AS known_share  -- Share of the calls whose tokens the provider told.
FROM counted_by_day
WHERE kind IN ('llm.call.finished', 'llm.call.aborted')
GROUP BY ALL
ORDER BY ALL
