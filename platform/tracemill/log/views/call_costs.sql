-- What each call that took tokens costs by today's prices, beside what was recorded for it.
SELECT
  call_id,
  day,  -- Of the end of the call, in UTC.
  ended_at,  -- Prices of this moment hold.
  status,  -- Finished or aborted.
  provider,
  request_model,
  response_model,
  service_tier,
  operation,
  conversation_id,
  key_id,
  user_id,
  metadata,
  prompt_name,
  prompt_version,
  usage_estimated,
  input_tokens,  -- All that was read.
  output_tokens,  -- All that was written.
  input_uncached_tokens,  -- Read, neither from the provider's cache nor into it.
  cache_read_tokens,  -- Read from the provider's cache.
  cache_write_5m_tokens,  -- Written to it for 5 minutes.
  cache_write_1h_tokens,  -- Written to it for an hour.
  reasoning_tokens,  -- A part of `output_tokens`.
  input_audio_tokens,  -- A part of `input_tokens`.
  cache_read_audio_tokens,  -- A part of `cache_read_tokens` and of `input_audio_tokens`.
  output_audio_tokens,  -- A part of `output_tokens`.
  cost_usd,  -- As recorded when it was made.
  repriced_usd,  -- By the table `prices`, exactly.
  cache_saved_usd,  -- What reads from the provider's cache cost less than they would have without.
  cache_write_usd,  -- What writes to it cost more.
  unpriced_reason,  -- Why `repriced_usd` is NULL.
  priced_as,  -- The model of the table.
  priced_tier  -- The service tier of the table.
FROM calls_priced('events')
