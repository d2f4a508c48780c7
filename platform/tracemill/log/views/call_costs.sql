-- What each call that took tokens costs by today's prices, beside what was recorded for it.
WITH
  -- What is billed by other units than tokens; NULL where a unit has a name that is not known.
  billed AS (
    SELECT
      position,
      sum(times) FILTER (unit = 'web_searches') AS web_searches,
      sum(times) FILTER (unit = 'social_searches') AS social_searches,
      sum(times) FILTER (unit = 'storage_searches') AS storage_searches,
      sum(times) FILTER (unit = 'code_executions') AS code_executions,
      sum(times) FILTER (unit = 'rerank_searches') AS rerank_searches,
      sum(times) FILTER (unit = 'citation_tokens') AS citation_tokens,
      sum(times) FILTER (unit = 'reasoning_tokens') AS reasoning_tokens,
      sum(times) FILTER (unit = 'input_tokens') AS read,
      sum(times) FILTER (unit = 'output_tokens') AS written,
      min(unit) FILTER (
        unit NOT IN (
          'web_searches', 'social_searches', 'storage_searches', 'code_executions',
          'rerank_searches', 'citation_tokens', 'reasoning_tokens', 'input_tokens', 'output_tokens'
        )
      ) AS unknown,
      max(times) AS most
    FROM (
      SELECT
        item.position,
        CASE WHEN known.billed_as IS NULL THEN item.name ELSE known.unit END AS unit,
        item.times
      FROM (
        SELECT position, each.key AS name, TRY_CAST(each.value AS DECIMAL(18, 6)) AS times
        FROM events, json_each(billed) AS each
        WHERE kind IN ('llm.call.finished', 'llm.call.aborted') AND billed IS NOT NULL
      ) AS item
      LEFT JOIN price_units AS known ON known.billed_as = item.name
    )
    WHERE times > 0 AND unit IS NOT NULL
    GROUP BY position
  ),
  calls AS (
    SELECT
      substr(e.stream, 6) AS call_id,
      e.occurred_at,
      e.kind,
      e.provider,
      e.request_model,
      e.response_model,
      e.service_tier,
      e.operation,
      e.conversation_id,
      e.key_id,
      e.user_id,
      e.metadata,
      e.prompt_name,
      e.prompt_version,
      e.usage_estimated,
      coalesce(e.input_tokens, 0) AS input_tokens,
      coalesce(e.output_tokens, 0) AS output_tokens,
      -- Where these are billed apart, as by Cohere, that is what is paid for.
      coalesce(CAST(b.read AS BIGINT), e.input_tokens, 0) AS read,
      coalesce(CAST(b.written AS BIGINT), e.output_tokens, 0) AS written,
      coalesce(e.cache_read_input_tokens, 0) AS cache_read,
      coalesce(e.cache_write_input_tokens, 0) AS cache_write,
      coalesce(e.cache_write_1h_input_tokens, 0) AS cache_write_1h,
      coalesce(e.reasoning_output_tokens, 0) AS reasoning,
      coalesce(e.input_audio_tokens, 0) AS input_audio,
      coalesce(e.cache_read_audio_tokens, 0) AS cache_read_audio,
      coalesce(e.output_audio_tokens, 0) AS output_audio,
      e.cost_usd,
      CAST(epoch_us(e.occurred_at) // 1000000 % 86400 AS INTEGER) AS second,
      b.* EXCLUDE (position, read, written)
    FROM events AS e
    LEFT JOIN billed AS b USING (position)
    WHERE e.kind IN ('llm.call.finished', 'llm.call.aborted')
  ),
  amounts AS (
    SELECT
      call_id,
      occurred_at,
      kind,
      c.provider,
      c.request_model,
      c.response_model,
      c.service_tier,
      c.operation,
      c.conversation_id,
      c.key_id,
      c.user_id,
      c.metadata,
      c.prompt_name,
      c.prompt_version,
      c.usage_estimated,
      input_tokens,
      output_tokens,
      c.cache_read AS cache_read_tokens,
      c.cache_write AS cache_write_tokens,
      c.cache_write_1h AS cache_write_1h_tokens,
      c.reasoning AS reasoning_tokens,
      c.input_audio AS input_audio_tokens,
      c.cache_read_audio AS cache_read_audio_tokens,
      c.output_audio AS output_audio_tokens,
      cost_usd,
      -- What the provider's cache changed: reads are cheaper than input, writes dearer.
      -(c.cache_read::DECIMAL(19, 0) * r.cache_read + c.cache_read_audio::DECIMAL(19, 0) * r.cache_read_audio) AS saved_by_reads,
      c.cache_write::DECIMAL(19, 0) * r.cache_write
        + c.cache_write_1h::DECIMAL(19, 0) * r.cache_write_1h AS spent_on_writes,
      r.priced_as,
      r.priced_tier,
      c.read::DECIMAL(19, 0) * r.input
        + c.written::DECIMAL(19, 0) * r.output
        + c.cache_read::DECIMAL(19, 0) * r.cache_read
        + c.cache_write::DECIMAL(19, 0) * r.cache_write
        + c.cache_write_1h::DECIMAL(19, 0) * r.cache_write_1h
        + c.reasoning::DECIMAL(19, 0) * r.reasoning
        + c.input_audio::DECIMAL(19, 0) * r.input_audio
        + c.cache_read_audio::DECIMAL(19, 0) * r.cache_read_audio
        + c.output_audio::DECIMAL(19, 0) * r.output_audio
        + r.requests
        + CASE
          WHEN c.most IS NULL THEN 0
          ELSE coalesce(c.web_searches::DECIMAL(18, 6) * r.web_searches, 0)
            + coalesce(c.social_searches::DECIMAL(18, 6) * r.social_searches, 0)
            + coalesce(c.storage_searches::DECIMAL(18, 6) * r.storage_searches, 0)
            + coalesce(c.code_executions::DECIMAL(18, 6) * r.code_executions, 0)
            + coalesce(c.rerank_searches::DECIMAL(18, 6) * r.rerank_searches, 0)
            + coalesce(c.citation_tokens::DECIMAL(18, 6) * r.citation_tokens, 0)
            + coalesce(c.reasoning_tokens::DECIMAL(18, 6) * r.reasoning_tokens, 0)
        END AS usd,
      CASE
        WHEN r.is_priced IS NULL THEN 'unknown model'
        WHEN NOT r.has_input AND (c.read > 0 OR NOT r.is_priced) THEN 'no price for input'
        WHEN NOT r.has_output AND c.written > 0 THEN 'no price for output'
        WHEN c.unknown IS NOT NULL THEN 'no price for ' || c.unknown
        WHEN c.web_searches > 0 AND r.web_searches IS NULL THEN 'no price for web_searches'
        WHEN c.social_searches > 0 AND r.social_searches IS NULL THEN 'no price for social_searches'
        WHEN c.storage_searches > 0 AND r.storage_searches IS NULL THEN 'no price for storage_searches'
        WHEN c.code_executions > 0 AND r.code_executions IS NULL THEN 'no price for code_executions'
        WHEN c.rerank_searches > 0 AND r.rerank_searches IS NULL THEN 'no price for rerank_searches'
        WHEN c.citation_tokens > 0 AND r.citation_tokens IS NULL THEN 'no price for citation_tokens'
        WHEN c.reasoning_tokens > 0 AND r.reasoning_tokens IS NULL THEN 'no price for reasoning_tokens'
        -- Parts that have prices of their own cannot be more than their whole.
        WHEN c.cache_read_audio * r.has_cache_read_audio > c.cache_read * r.has_cache_read
          OR c.cache_read_audio * r.has_cache_read_audio > c.input_audio * r.has_input_audio
          OR c.cache_write_1h * r.has_cache_write_1h > c.cache_write * r.has_cache_write
          OR c.cache_read * r.has_cache_read + c.cache_write * r.has_cache_write
            + c.input_audio * r.has_input_audio - c.cache_read_audio * r.has_cache_read_audio
            > c.read
          OR c.reasoning * r.has_reasoning + c.output_audio * r.has_output_audio > c.written
          THEN 'contradictory usage'
        WHEN c.read + c.written > 100000000000 OR c.most > 1000000000
          THEN 'implausible usage'
      END AS reason
    FROM calls AS c
    LEFT JOIN billing_rates AS r
      ON r.provider = c.provider
      AND r.request_model = c.request_model
      AND r.response_model IS NOT DISTINCT FROM c.response_model
      AND r.service_tier IS NOT DISTINCT FROM c.service_tier
      AND c.occurred_at >= r.effective_from
      AND c.occurred_at < r.effective_until
      AND c.second >= r.from_second
      AND c.second < r.until_second
      AND c.input_tokens > r.tier_start
      AND c.input_tokens <= r.tier_end
  )
SELECT
  call_id,
  CAST(occurred_at AS DATE) AS day,  -- Of the end of the call, in UTC.
  occurred_at AS ended_at,  -- Prices of this moment hold.
  substr(kind, 10) AS status,  -- Finished or aborted.
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
  greatest(input_tokens - cache_read_tokens - cache_write_tokens, 0) AS input_uncached_tokens,  -- Read, neither from the provider's cache nor into it.
  cache_read_tokens,  -- Read from the provider's cache.
  greatest(cache_write_tokens - cache_write_1h_tokens, 0) AS cache_write_5m_tokens,  -- Written to it for 5 minutes.
  cache_write_1h_tokens,  -- Written to it for an hour.
  reasoning_tokens,  -- A part of `output_tokens`.
  input_audio_tokens,  -- A part of `input_tokens`.
  cache_read_audio_tokens,  -- A part of `cache_read_tokens` and of `input_audio_tokens`.
  output_audio_tokens,  -- A part of `output_tokens`.
  cost_usd,  -- As recorded when it was made.
  CASE WHEN reason IS NULL THEN usd END AS repriced_usd,  -- By the table `prices`, exactly.
  CASE WHEN reason IS NULL THEN saved_by_reads END AS cache_saved_usd,  -- What reads from the provider's cache cost less than they would have without.
  CASE WHEN reason IS NULL THEN spent_on_writes END AS cache_write_usd,  -- What writes to it cost more.
  reason AS unpriced_reason,  -- Why `repriced_usd` is NULL.
  priced_as,  -- The model of the table.
  priced_tier  -- The service tier of the table.
FROM amounts
