-- What caches saved, day by day and model: that of the provider by today's prices, and ours, which answers without a call.
WITH
  cached AS (
    SELECT
      CAST(occurred_at AS DATE) AS day,
      provider,
      request_model,
      count(*) AS calls,
      sum(saved_usd) AS saved_usd,
      count(saved_usd) AS known
    FROM events
    WHERE kind = 'llm.call.cached'
    GROUP BY ALL
  ),
  asked AS (
    SELECT
      day,
      provider,
      request_model,
      count(*) AS calls,
      count(repriced_usd) AS priced,
      count(*) FILTER (cache_read_tokens > 0) AS hits,
      sum(input_tokens)::BIGINT AS input_tokens,
      sum(cache_read_tokens)::BIGINT AS cache_read_tokens,
      sum(cache_write_5m_tokens + cache_write_1h_tokens)::BIGINT AS cache_write_tokens,
      sum(cache_saved_usd) AS cache_saved_usd,
      sum(cache_write_usd) AS cache_write_usd
    FROM call_costs
    GROUP BY ALL
  )
SELECT
  day,  -- Of the end of the calls, in UTC.
  provider,
  request_model,
  coalesce(asked.calls, 0) AS calls,  -- Calls that took tokens.
  coalesce(hits, 0) AS hits,  -- Those that read from the provider's cache.
  coalesce(input_tokens, 0) AS input_tokens,
  coalesce(cache_read_tokens, 0) AS cache_read_tokens,  -- Read from the provider's cache.
  coalesce(cache_write_tokens, 0) AS cache_write_tokens,  -- Written to it.
  cache_read_tokens / nullif(input_tokens, 0) AS read_share,  -- Of what was read, the share that came from the provider's cache.
  CAST(coalesce(cache_saved_usd, 0) AS DECIMAL(38, 12)) AS reads_saved_usd,  -- What cached reads cost less than uncached ones.
  CAST(coalesce(cache_write_usd, 0) AS DECIMAL(38, 12)) AS writes_cost_usd,  -- What writing to the cache cost more than reading alone.
  CAST(coalesce(cache_saved_usd - cache_write_usd, 0) AS DECIMAL(38, 12)) AS saved_usd,  -- The one less the other: negative where caching does not pay.
  coalesce(cached.calls, 0) AS answered,  -- Calls that our own response cache answered.
  coalesce(cached.saved_usd, 0) AS answers_saved_usd,  -- What they would have cost, as recorded then.
  (coalesce(priced, 0) + coalesce(known, 0)) / (coalesce(asked.calls, 0) + coalesce(cached.calls, 0)) AS known_share  -- Share of the calls whose price is known.
FROM asked
FULL JOIN cached USING (day, provider, request_model)
