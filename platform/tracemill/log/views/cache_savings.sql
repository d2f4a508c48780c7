-- What caches saved, day by day and model: that of the provider by today's prices, and ours, which answers without a call.
WITH
  together AS (
    SELECT
      day,
      provider,
      request_model,
      sum(billed)::BIGINT AS calls,
      coalesce(sum(hits) FILTER (billed > 0), 0)::BIGINT AS hits,
      coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
      coalesce(sum(cache_read), 0)::BIGINT AS cache_read_tokens,
      coalesce(sum(cache_write), 0)::BIGINT AS cache_write_tokens,
      coalesce(sum(cache_saved_usd), 0) AS reads_saved_usd,
      coalesce(sum(cache_write_usd), 0) AS writes_cost_usd,
      coalesce(sum(calls) FILTER (status = 'cached'), 0)::BIGINT AS answered,
      coalesce(sum(saved_usd), 0) AS answers_saved_usd,
      sum(priced) + sum(saved) AS known
    FROM spent_by_day
    WHERE billed > 0 OR status = 'cached'
    GROUP BY ALL
  )
SELECT
  day,  -- Of the end of the calls, in UTC.
  provider,
  request_model,
  calls,  -- Calls that took tokens.
  hits,  -- Those that read from the provider's cache.
  input_tokens,
  cache_read_tokens,  -- Read from the provider's cache.
  cache_write_tokens,  -- Written to it.
  cache_read_tokens / nullif(input_tokens, 0) AS read_share,  -- Of what was read, the share that came from the provider's cache.
  CAST(reads_saved_usd AS DECIMAL(38, 12)) AS reads_saved_usd,  -- What cached reads cost less than uncached ones.
  CAST(writes_cost_usd AS DECIMAL(38, 12)) AS writes_cost_usd,  -- What writing to the cache cost more than reading alone.
  CAST(reads_saved_usd - writes_cost_usd AS DECIMAL(38, 12)) AS saved_usd,  -- The one less the other: negative where caching does not pay.
  answered,  -- Calls that our own response cache answered.
  CAST(answers_saved_usd AS DECIMAL(38, 9)) AS answers_saved_usd,  -- What they would have cost, as recorded then.
  known / (calls + answered) AS known_share  -- Share of the calls whose price is known.
FROM together
ORDER BY ALL
