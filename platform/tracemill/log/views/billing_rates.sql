-- The rates of every model in the log, as the calls name it: a row for each span of time and length of prompt.
WITH
  asked AS (
    SELECT DISTINCT provider, request_model, response_model, service_tier
    FROM events
    WHERE kind IN ('llm.call.finished', 'llm.call.aborted')
  ),
  named AS (
    SELECT provider, request_model AS name FROM asked
    UNION
    SELECT provider, response_model FROM asked WHERE response_model IS NOT NULL
  ),
  -- A date such as -20251211 is tried as -2025-12-11 where nothing else fits.
  spelled AS (
    SELECT provider, name, lower(name) AS spelling, 0 AS attempt FROM named
    UNION ALL
    SELECT
      provider,
      name,
      regexp_replace(
        lower(name),
        '-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(-|:|$)',
        '-\1-\2-\3\4'
      ),
      1
    FROM named
  ),
  fitting AS (
    SELECT s.provider, s.name, s.attempt, p.rank, p.model_key, p.own
    FROM spelled AS s
    JOIN price_names AS p
      ON p.provider = s.provider AND p.how = 'equals' AND p.text = s.spelling
    UNION ALL
    SELECT s.provider, s.name, s.attempt, p.rank, p.model_key, p.own
    FROM spelled AS s
    JOIN (FROM price_names WHERE how <> 'equals') AS p
      ON p.provider = s.provider
      AND CASE p.how
        WHEN 'starts_with' THEN starts_with(s.spelling, p.text)
        WHEN 'contains' THEN contains(s.spelling, p.text)
        WHEN 'ends_with' THEN ends_with(s.spelling, p.text)
        ELSE regexp_matches(s.spelling, p.text)
      END
      AND (p.unless IS NULL OR NOT regexp_matches(s.spelling, p.unless))
  ),
  known AS (
    SELECT provider, name, min_by({key: model_key, own: own}, attempt * 1000000 + rank) AS model
    FROM fitting
    GROUP BY ALL
  ),
  -- The model that answered, else the one that was asked for.
  meant AS (
    SELECT a.*, coalesce(answered.model, wanted.model) AS model
    FROM asked AS a
    LEFT JOIN known AS answered
      ON answered.provider = a.provider AND answered.name = a.response_model
    LEFT JOIN known AS wanted ON wanted.provider = a.provider AND wanted.name = a.request_model
  ),
  -- A tier without prices costs what the standard one does.
  served AS (
    SELECT
      m.provider,
      m.request_model,
      m.response_model,
      m.service_tier,
      m.model.key AS model_key,
      CASE
        WHEN m.model.own AND EXISTS (
          FROM prices AS p WHERE p.model_key = m.model.key AND p.service_tier = lower(m.service_tier)
        ) THEN lower(m.service_tier)
        ELSE 'standard'
      END AS priced_tier
    FROM meant AS m
    WHERE m.model IS NOT NULL
  ),
  -- In dollars for one of each.
  prices_apiece AS (
    SELECT *, CAST(usd_per_million * 0.000001 AS DECIMAL(19, 18)) AS usd
    FROM prices
    WHERE model_key IN (SELECT model_key FROM served)
  ),
  apiece AS (
    SELECT
      model_key,
      model,
      service_tier,
      effective_from,
      effective_until,
      from_second,
      until_second,
      tier_start,
      tier_end,
      count(unit) > 0 AS is_priced,
      max(usd) FILTER (unit = 'input') AS input,
      max(usd) FILTER (unit = 'output') AS output,
      max(usd) FILTER (unit = 'cache_read') AS cache_read,
      max(usd) FILTER (unit = 'cache_write') AS cache_write,
      max(usd) FILTER (unit = 'cache_write_1h') AS cache_write_1h,
      max(usd) FILTER (unit = 'reasoning') AS reasoning,
      max(usd) FILTER (unit = 'input_audio') AS input_audio,
      max(usd) FILTER (unit = 'cache_read_audio') AS cache_read_audio,
      max(usd) FILTER (unit = 'output_audio') AS output_audio,
      max(usd) FILTER (unit = 'citation') AS citation,
      max(usd) FILTER (unit = 'requests') AS requests,
      max(usd) FILTER (unit = 'web_searches') AS web_searches,
      max(usd) FILTER (unit = 'social_searches') AS social_searches,
      max(usd) FILTER (unit = 'storage_searches') AS storage_searches,
      max(usd) FILTER (unit = 'code_executions') AS code_executions,
      max(usd) FILTER (unit = 'rerank_searches') AS rerank_searches
    FROM prices_apiece
    GROUP BY ALL
  )
SELECT
  s.provider,
  s.request_model,
  s.response_model,
  s.service_tier,  -- As the calls name it.
  a.model AS priced_as,  -- The model of the price table.
  a.service_tier AS priced_tier,  -- The tier of the price table.
  a.effective_from,  -- The rates hold from this moment, UTC,
  a.effective_until,  -- until this one,
  a.from_second,  -- and in each day from this second
  a.until_second,  -- until this one,
  a.tier_start,  -- for prompts of more tokens than this
  a.tier_end,  -- and of no more than this.
  a.is_priced,  -- Whether anything has a price.
  a.input IS NOT NULL AS has_input,  -- Whether it has a price.
  a.output IS NOT NULL AS has_output,  -- Whether it has a price.
  (a.cache_read IS NOT NULL)::BIGINT AS has_cache_read,  -- 1 where it has a price of its own.
  (a.cache_write IS NOT NULL)::BIGINT AS has_cache_write,  -- 1 where it has a price of its own.
  (a.cache_write_1h IS NOT NULL)::BIGINT AS has_cache_write_1h,  -- 1 where it has a price of its own.
  (a.reasoning IS NOT NULL)::BIGINT AS has_reasoning,  -- 1 where it has a price of its own.
  (a.input_audio IS NOT NULL)::BIGINT AS has_input_audio,  -- 1 where it has a price of its own.
  (a.cache_read_audio IS NOT NULL)::BIGINT AS has_cache_read_audio,  -- 1 where it has a price of its own.
  (a.output_audio IS NOT NULL)::BIGINT AS has_output_audio,  -- 1 where it has a price of its own.
  coalesce(a.input, 0) AS input,  -- US dollars a token.
  coalesce(a.output, 0) AS output,  -- US dollars a token.
  coalesce(a.cache_read - a.input, 0) AS cache_read,  -- What it adds to the price of `input`; so on below.
  coalesce(a.cache_write - a.input, 0) AS cache_write,  -- What it adds to the price of `input`.
  coalesce(a.cache_write_1h - a.cache_write, 0) AS cache_write_1h,  -- What it adds to that of `cache_write`.
  coalesce(a.reasoning - a.output, 0) AS reasoning,  -- What it adds to the price of `output`.
  coalesce(a.input_audio - a.input, 0) AS input_audio,  -- What it adds to the price of `input`.
  coalesce(a.cache_read_audio - a.cache_read - a.input_audio + a.input, 0) AS cache_read_audio,  -- What it adds to those of `cache_read` and `input_audio`.
  coalesce(a.output_audio - a.output, 0) AS output_audio,  -- What it adds to the price of `output`.
  coalesce(a.requests, 0) AS requests,  -- US dollars a call.
  a.web_searches,  -- US dollars apiece; so on below.
  a.social_searches,  -- US dollars apiece.
  a.storage_searches,  -- US dollars apiece.
  a.code_executions,  -- US dollars apiece.
  a.rerank_searches,  -- US dollars apiece.
  coalesce(a.citation, a.output) AS citation_tokens,  -- US dollars a token, of those that are billed beside the output.
  coalesce(a.reasoning, a.output) AS reasoning_tokens  -- US dollars a token, of those that are billed beside the output.
FROM served AS s
JOIN apiece AS a ON a.model_key = s.model_key AND a.service_tier = s.priced_tier
