-- Functions that views share, and that questions may use too.

-- Whether an event is the end of a call: aborted, cached, crashed, failed and finished are neighbours in the alphabet,
-- and a range is looked for in the files' statistics, unlike a choice of five.
CREATE MACRO is_end(kind) AS kind BETWEEN 'llm.call.aborted' AND 'llm.call.finished';

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

-- What each call that took tokens costs: of `events`, or a part of it. Named, not given: what is read several times and
-- named here is read each time with the filters of the question.
CREATE MACRO calls_priced(ended) AS TABLE
WITH
  models_of_calls AS (
    SELECT DISTINCT provider, request_model, response_model, service_tier FROM query_table(ended) WHERE kind IN ('llm.call.finished', 'llm.call.aborted')
  ),
  rates AS (FROM rates_among('models_of_calls')),
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
        FROM query_table(ended), json_each(billed) AS each
        WHERE kind IN ('llm.call.finished', 'llm.call.aborted') AND billed IS NOT NULL
      ) AS item
      LEFT JOIN price_units AS known ON known.billed_as = item.name
    )
    WHERE times > 0 AND unit IS NOT NULL
    GROUP BY position
  ),
  calls AS (
    SELECT
      e.position,
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
    FROM query_table(ended) AS e
    LEFT JOIN billed AS b USING (position)
    WHERE e.kind IN ('llm.call.finished', 'llm.call.aborted')
  ),
  amounts AS (
    SELECT
      position,
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
    LEFT JOIN rates AS r
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
  position,
  call_id,
  CAST(occurred_at AS DATE) AS day,
  occurred_at AS ended_at,
  substr(kind, 10) AS status,
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
  input_tokens,
  output_tokens,
  greatest(input_tokens - cache_read_tokens - cache_write_tokens, 0) AS input_uncached_tokens,
  cache_read_tokens,
  greatest(cache_write_tokens - cache_write_1h_tokens, 0) AS cache_write_5m_tokens,
  cache_write_1h_tokens,
  reasoning_tokens,
  input_audio_tokens,
  cache_read_audio_tokens,
  output_audio_tokens,
  cost_usd,
  CASE WHEN reason IS NULL THEN usd END AS repriced_usd,
  CASE WHEN reason IS NULL THEN saved_by_reads END AS cache_saved_usd,
  CASE WHEN reason IS NULL THEN spent_on_writes END AS cache_write_usd,
  reason AS unpriced_reason,
  priced_as,
  priced_tier
FROM amounts;

-- What calls cost, summed as far as it does not matter: of a relation of ends of calls, with the columns that are named
-- below and those to group by, taken from `among`. A price is per token, so the tokens of calls of one price are summed
-- before they are priced; calls that could have no price for what they say of their tokens are priced one by one.
CREATE MACRO costs_among(ended, among := 'events') AS TABLE
WITH
  judged AS NOT MATERIALIZED (
    SELECT
      *,
      kind IN ('llm.call.finished', 'llm.call.aborted') AS is_billed,
      is_billed AND (
        billed IS NOT NULL
        OR cache_read_audio_tokens > 0
        OR cache_write_1h_input_tokens > cache_write_input_tokens
        OR cache_read_input_tokens + cache_write_input_tokens + input_audio_tokens > input_tokens
        OR reasoning_output_tokens + output_audio_tokens > output_tokens
        OR input_tokens + output_tokens > 100000000000
      ) AS is_odd
    FROM query_table(ended)
  ),
  names_asked AS (
    SELECT DISTINCT provider, request_model, response_model, service_tier FROM query_table(among) WHERE kind IN ('llm.call.finished', 'llm.call.aborted')
  ),
  rates AS MATERIALIZED (FROM rates_among('names_asked')),
  changing AS (
    SELECT
      list(DISTINCT request_model) FILTER (from_second > 0 OR until_second < 86400) AS by_hour,
      list(DISTINCT request_model) FILTER (effective_from > TIMESTAMP '1900-01-01' OR effective_until < TIMESTAMP '9000-01-01') AS by_date,
      list(DISTINCT from_second) AS turns,
      min(tier_end) AS longest
    FROM rates
  ),
  together AS (
    SELECT
      * EXCLUDE (
        position, occurred_at, input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens,
        cache_write_1h_input_tokens, reasoning_output_tokens, input_audio_tokens, cache_read_audio_tokens,
        output_audio_tokens, cost_usd, saved_usd, billed, is_odd, by_hour, by_date, turns, longest),
      CASE WHEN is_odd THEN position END AS alone,
      CASE WHEN is_billed AND list_contains(by_date, request_model) THEN CAST(occurred_at AS DATE) END AS on_day,
      CASE WHEN is_billed AND list_contains(by_hour, request_model) THEN list_max(list_filter(turns, lambda turn: turn <= epoch_us(occurred_at) // 1000000 % 86400)) END AS in_second,
      CASE WHEN input_tokens > longest THEN input_tokens END AS long_prompt,
      input_tokens > 0 AS has_read,
      output_tokens > 0 AS has_written,
      count(*) AS calls,
      min(occurred_at) AS occurred_at,
      sum(input_tokens)::BIGINT AS input_tokens,
      sum(output_tokens)::BIGINT AS output_tokens,
      sum(cache_read_input_tokens)::BIGINT AS cache_read,
      sum(cache_write_input_tokens)::BIGINT AS cache_write,
      sum(cache_write_1h_input_tokens)::BIGINT AS cache_write_1h,
      sum(reasoning_output_tokens)::BIGINT AS reasoning,
      sum(input_audio_tokens)::BIGINT AS input_audio,
      sum(cache_read_audio_tokens)::BIGINT AS cache_read_audio,
      sum(output_audio_tokens)::BIGINT AS output_audio,
      sum(cost_usd) AS cost_usd,
      sum(saved_usd) AS saved_usd,
      count(saved_usd) AS saved,
      count(*) FILTER (cache_read_input_tokens > 0) AS hits
    FROM judged, changing
    GROUP BY ALL
  ),
  priced AS (
    SELECT
      t.*,
      coalesce(
        r.is_priced AND (r.has_input OR NOT t.has_read) AND (r.has_output OR NOT t.has_written)
        -- Parts that have prices of their own cannot be more than their whole.
        AND t.cache_read_audio * r.has_cache_read_audio <= least(t.cache_read * r.has_cache_read, t.input_audio * r.has_input_audio)
        AND t.cache_write_1h * r.has_cache_write_1h <= t.cache_write * r.has_cache_write
        AND t.cache_read * r.has_cache_read + t.cache_write * r.has_cache_write + t.input_audio * r.has_input_audio
          - t.cache_read_audio * r.has_cache_read_audio <= t.input_tokens
        AND t.reasoning * r.has_reasoning + t.output_audio * r.has_output_audio <= t.output_tokens
        AND (t.alone IS NULL OR t.input_tokens + t.output_tokens <= 100000000000), false) AS is_priced,
      t.input_tokens::DECIMAL(19, 0) * r.input
        + t.output_tokens::DECIMAL(19, 0) * r.output
        + t.cache_read::DECIMAL(19, 0) * r.cache_read
        + t.cache_write::DECIMAL(19, 0) * r.cache_write
        + t.cache_write_1h::DECIMAL(19, 0) * r.cache_write_1h
        + t.reasoning::DECIMAL(19, 0) * r.reasoning
        + t.input_audio::DECIMAL(19, 0) * r.input_audio
        + t.cache_read_audio::DECIMAL(19, 0) * r.cache_read_audio
        + t.output_audio::DECIMAL(19, 0) * r.output_audio
        + t.calls::DECIMAL(19, 0) * r.requests AS usd,
      -(t.cache_read::DECIMAL(19, 0) * r.cache_read + t.cache_read_audio::DECIMAL(19, 0) * r.cache_read_audio) AS cache_saved,
      t.cache_write::DECIMAL(19, 0) * r.cache_write + t.cache_write_1h::DECIMAL(19, 0) * r.cache_write_1h AS cache_spent
    FROM together AS t
    LEFT JOIN rates AS r
      ON t.is_billed
      AND r.provider = t.provider
      AND r.request_model = t.request_model
      AND r.response_model IS NOT DISTINCT FROM t.response_model
      AND r.service_tier IS NOT DISTINCT FROM t.service_tier
      AND t.occurred_at >= r.effective_from
      AND t.occurred_at < r.effective_until
      AND coalesce(t.in_second, 0) >= r.from_second
      AND coalesce(t.in_second, 0) < r.until_second
      AND coalesce(t.long_prompt, 0) > r.tier_start
      AND coalesce(t.long_prompt, 0) <= r.tier_end
  ),
  billed_apart AS (FROM query_table(among) WHERE kind IN ('llm.call.finished', 'llm.call.aborted') AND billed IS NOT NULL),
  apart AS (FROM calls_priced('billed_apart'))
SELECT
  priced.* EXCLUDE (
    response_model, service_tier, kind, is_billed, is_priced, on_day, in_second, long_prompt, has_read, has_written,
    occurred_at, usd, cache_saved, cache_spent, cache_write_1h, reasoning, input_audio, cache_read_audio, output_audio, alone),
  substr(kind, 10) AS status,
  CASE WHEN is_billed THEN calls ELSE 0 END AS billed,
  CASE
    WHEN apart.position IS NOT NULL THEN CAST(apart.repriced_usd IS NOT NULL AS BIGINT)
    WHEN is_billed AND is_priced THEN calls
    ELSE 0
  END AS priced,
  CASE WHEN apart.position IS NOT NULL THEN apart.repriced_usd WHEN is_priced THEN usd END AS repriced_usd,
  CASE WHEN apart.position IS NOT NULL THEN apart.cache_saved_usd WHEN is_priced THEN cache_saved END AS cache_saved_usd,
  CASE WHEN apart.position IS NOT NULL THEN apart.cache_write_usd WHEN is_priced THEN cache_spent END AS cache_write_usd
FROM priced
LEFT JOIN apart ON apart.position = priced.alone;

-- What the calls cost that are in no sum yet, by an expression and status: see `sums/`.
CREATE MACRO spent_by(expression) AS TABLE
WITH
  ended AS (
    SELECT
      expression AS summed_by, position, kind, occurred_at, provider, request_model, response_model, service_tier,
      input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens, cache_write_1h_input_tokens,
      reasoning_output_tokens, input_audio_tokens, cache_read_audio_tokens, output_audio_tokens, cost_usd, saved_usd, billed
    FROM unsummed
    WHERE is_end(kind)
  )
SELECT
  summed_by,
  status,
  sum(calls)::BIGINT AS calls,
  sum(billed)::BIGINT AS billed,
  sum(priced)::BIGINT AS priced,
  sum(hits)::BIGINT AS hits,
  sum(saved)::BIGINT AS saved,
  sum(input_tokens)::BIGINT AS input_tokens,
  sum(output_tokens)::BIGINT AS output_tokens,
  sum(cache_read)::BIGINT AS cache_read,
  sum(cache_write)::BIGINT AS cache_write,
  sum(repriced_usd) AS repriced_usd,
  sum(cache_saved_usd) AS cache_saved_usd,
  sum(cache_write_usd) AS cache_write_usd,
  sum(cost_usd) AS cost_usd,
  sum(saved_usd) AS saved_usd
FROM costs_among('ended', among := 'unsummed')
GROUP BY ALL;

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
    SELECT
      split_part(CAST(model AS VARCHAR), '/', 1) AS provider,
      substr(CAST(model AS VARCHAR), 1 + strpos(CAST(model AS VARCHAR), '/')) AS request_model,
      CAST(NULL AS VARCHAR) AS response_model,
      CASE WHEN batch THEN 'batch' END AS service_tier
    WHERE model IS NOT NULL
    UNION ALL
    SELECT DISTINCT provider, request_model, response_model, CASE WHEN batch THEN 'batch' END AS service_tier
    FROM query_table(calls)
    WHERE model IS NULL
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
