-- Functions that views share, and that questions may use too.

-- The text of a message's `content`: a string, or the text parts among its parts.
CREATE MACRO text_of(content) AS CASE json_type(content)
  WHEN 'VARCHAR' THEN content ->> '$'
  WHEN 'ARRAY' THEN array_to_string(
    [part.content FOR part IN from_json(content, '[{"type": "VARCHAR", "content": "VARCHAR"}]') IF part.type = 'text'], '')
END;

-- The text of the last user message.
CREATE MACRO prompt_of(messages) AS text_of(
  ([m.content FOR m IN from_json(messages, '[{"role": "VARCHAR", "content": "JSON"}]') IF m.role = 'user'])[-1]);

-- A message without what differs from time to time: urls, quoted values, ids, durations, numbers.
CREATE MACRO pattern_of(message) AS left(trim(
  regexp_replace(
  regexp_replace(
  regexp_replace(
  regexp_replace(
  regexp_replace(
  regexp_replace(
  regexp_replace(
    message,
    'https?://[^\s"''<>]+', '<url>', 'g'),
    '"[^"]*"|`[^`]*`|\B''[^'']*''\B', '<value>', 'g'),
    '\b([A-Za-z]+_)?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b[0-9a-fA-F]{16,}\b', '<id>', 'g'),
    '\b([0-9]+(\.[0-9]+)?(ms|[smhd]))+\b', '<n>s', 'g'),
    '\b[A-Za-z]+[_-][A-Za-z0-9_-]*[0-9][A-Za-z0-9_-]*|\b[A-Za-z]*[0-9]+[A-Za-z]+[0-9]+[A-Za-z0-9]*\b', '<id>', 'g'),
    '[0-9]+([.,:/-][0-9]+)*', '<n>', 'g'),
    '\s+', ' ', 'g')), 300);

-- The words of a text in lower case, one space between them, numbers alike, scripts without spaces cut into characters.
CREATE MACRO words_of(content) AS trim(regexp_replace(regexp_replace(regexp_replace(
  lower(content),
  '\pN+', '0', 'g'),
  '(\p{Han}|\p{Hiragana}|\p{Katakana}|\p{Thai}|\p{Lao}|\p{Khmer}|\p{Myanmar})', ' \1 ', 'g'),
  '[^\pL\pN\pM]+', ' ', 'g'));

-- The rates of the models of a relation with provider, request_model, response_model and service_tier.
CREATE MACRO rates_among(models_asked) AS TABLE
WITH
  asked AS (FROM query_table(models_asked)),
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
  s.service_tier,
  a.model AS priced_as,
  a.service_tier AS priced_tier,
  a.effective_from,
  a.effective_until,
  a.from_second,
  a.until_second,
  a.tier_start,
  a.tier_end,
  a.is_priced,
  a.input IS NOT NULL AS has_input,
  a.output IS NOT NULL AS has_output,
  (a.cache_read IS NOT NULL)::BIGINT AS has_cache_read,
  (a.cache_write IS NOT NULL)::BIGINT AS has_cache_write,
  (a.cache_write_1h IS NOT NULL)::BIGINT AS has_cache_write_1h,
  (a.reasoning IS NOT NULL)::BIGINT AS has_reasoning,
  (a.input_audio IS NOT NULL)::BIGINT AS has_input_audio,
  (a.cache_read_audio IS NOT NULL)::BIGINT AS has_cache_read_audio,
  (a.output_audio IS NOT NULL)::BIGINT AS has_output_audio,
  coalesce(a.input, 0) AS input,
  coalesce(a.output, 0) AS output,
  coalesce(a.cache_read - a.input, 0) AS cache_read,
  coalesce(a.cache_write - a.input, 0) AS cache_write,
  coalesce(a.cache_write_1h - a.cache_write, 0) AS cache_write_1h,
  coalesce(a.reasoning - a.output, 0) AS reasoning,
  coalesce(a.input_audio - a.input, 0) AS input_audio,
  coalesce(a.cache_read_audio - a.cache_read - a.input_audio + a.input, 0) AS cache_read_audio,
  coalesce(a.output_audio - a.output, 0) AS output_audio,
  coalesce(a.requests, 0) AS requests,
  a.web_searches,
  a.social_searches,
  a.storage_searches,
  a.code_executions,
  a.rerank_searches,
  coalesce(a.citation, a.output) AS citation_tokens,
  coalesce(a.reasoning, a.output) AS reasoning_tokens
FROM served AS s
JOIN apiece AS a ON a.model_key = s.model_key AND a.service_tier = s.priced_tier;

-- What calls would cost elsewhere, by day and model: with another model (provider/name), in a batch, with that share of
-- the input read from the provider's cache (NULL: cached as they were). `calls` names a relation with the columns of
-- `call_costs`. Sums are of the calls that have a price both ways; what is billed beside tokens is not in `then_usd`.
CREATE MACRO reprice(calls := 'call_costs', model := NULL, batch := false, caching := NULL, since := NULL, until := NULL) AS TABLE
WITH
  taken AS (
    SELECT
      *,
      coalesce(split_part(CAST(model AS VARCHAR), '/', 1), provider) AS then_provider,
      coalesce(substr(CAST(model AS VARCHAR), 1 + strpos(CAST(model AS VARCHAR), '/')), request_model) AS then_model,
      CASE WHEN model IS NULL THEN response_model END AS then_response,
      CASE WHEN batch THEN 'batch' END AS then_tier,
      CASE
        WHEN caching IS NULL THEN cache_read_tokens
        ELSE CAST(floor(input_tokens::DECIMAL(19, 0) * CAST(caching AS DECIMAL(9, 6))) AS BIGINT)
      END AS hit,
      CASE WHEN caching IS NULL THEN cache_write_5m_tokens + cache_write_1h_tokens ELSE 0 END AS stored,
      CASE WHEN caching IS NULL THEN cache_write_1h_tokens ELSE 0 END AS stored_1h,
      CASE WHEN caching IS NULL THEN cache_read_audio_tokens ELSE 0 END AS hit_audio,
      CAST(epoch_us(ended_at) // 1000000 % 86400 AS INTEGER) AS second
    FROM query_table(calls)
    WHERE (since IS NULL OR ended_at >= CAST(since AS TIMESTAMP)) AND (until IS NULL OR ended_at < CAST(until AS TIMESTAMP))
  ),
  models_elsewhere AS (
    SELECT DISTINCT then_provider AS provider, then_model AS request_model, then_response AS response_model, then_tier AS service_tier
    FROM taken
  ),
  elsewhere AS (FROM rates_among('models_elsewhere')),
  priced AS (
    SELECT
      t.day,
      t.provider,
      t.request_model,
      t.input_tokens,
      t.output_tokens,
      t.repriced_usd,
      CASE
        WHEN r.is_priced IS NULL
          OR (NOT r.has_input AND (t.input_tokens > 0 OR NOT r.is_priced))
          OR (NOT r.has_output AND t.output_tokens > 0)
          OR t.hit_audio * r.has_cache_read_audio > least(t.hit * r.has_cache_read, t.input_audio_tokens * r.has_input_audio)
          OR t.stored_1h * r.has_cache_write_1h > t.stored * r.has_cache_write
          OR t.hit * r.has_cache_read + t.stored * r.has_cache_write + t.input_audio_tokens * r.has_input_audio
            - t.hit_audio * r.has_cache_read_audio > t.input_tokens
          OR t.reasoning_tokens * r.has_reasoning + t.output_audio_tokens * r.has_output_audio > t.output_tokens
          OR t.input_tokens + t.output_tokens > 100000000000
        THEN NULL
        ELSE t.input_tokens::DECIMAL(19, 0) * r.input
          + t.output_tokens::DECIMAL(19, 0) * r.output
          + t.hit::DECIMAL(19, 0) * r.cache_read
          + t.stored::DECIMAL(19, 0) * r.cache_write
          + t.stored_1h::DECIMAL(19, 0) * r.cache_write_1h
          + t.reasoning_tokens::DECIMAL(19, 0) * r.reasoning
          + t.input_audio_tokens::DECIMAL(19, 0) * r.input_audio
          + t.hit_audio::DECIMAL(19, 0) * r.cache_read_audio
          + t.output_audio_tokens::DECIMAL(19, 0) * r.output_audio
          + r.requests
      END AS usd
    FROM taken AS t
    LEFT JOIN elsewhere AS r
      ON r.provider = t.then_provider
      AND r.request_model = t.then_model
      AND r.response_model IS NOT DISTINCT FROM t.then_response
      AND r.service_tier IS NOT DISTINCT FROM t.then_tier
      AND t.ended_at >= r.effective_from
      AND t.ended_at < r.effective_until
      AND t.second >= r.from_second
      AND t.second < r.until_second
      AND t.input_tokens > r.tier_start
      AND t.input_tokens <= r.tier_end
  )
SELECT
  day,
  provider,
  request_model,
  count(*) AS calls,
  coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
  coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
  coalesce(sum(repriced_usd) FILTER (usd IS NOT NULL), 0) AS cost_usd,
  coalesce(sum(usd) FILTER (repriced_usd IS NOT NULL), 0) AS then_usd,
  coalesce(sum(usd - repriced_usd), 0) AS difference_usd,
  count(*) FILTER (usd IS NULL OR repriced_usd IS NULL) AS unpriced
FROM priced
GROUP BY ALL;
