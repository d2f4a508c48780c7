-- One row for each version of a prompt: how often it was used, what came of it, what it cost.
WITH
  added AS (
    SELECT
      substr(stream, 8) AS prompt_name,
      payload ->> '$.version' AS prompt_version,
      min(occurred_at) AS added_at,
      min_by(payload ->> '$.description', position) AS description
    FROM events
    WHERE kind = 'prompt.version_added'
    GROUP BY ALL
  ),
  pointing AS (
    SELECT
      substr(stream, 8) AS prompt_name,
      payload ->> '$.label' AS label,
      max_by(payload ->> '$.version', position) AS prompt_version
    FROM events
    WHERE kind = 'prompt.label_moved'
    GROUP BY ALL
  ),
  labelled AS (
    SELECT prompt_name, prompt_version, list(label ORDER BY label) AS labels
    FROM pointing
    GROUP BY ALL
  ),
  ends AS (
    SELECT
      prompt_name,
      prompt_version,
      0 AS calls,
      0 AS failed,
      0 AS cached,
      sum(billed) AS billed,
      sum(priced) AS priced,
      sum(input_tokens) AS input_tokens,
      sum(output_tokens) AS output_tokens,
      sum(repriced_usd) AS repriced_usd,
      sum(cost_usd) AS cost_usd
    FROM spent_by_prompt
    WHERE prompt_name IS NOT NULL AND status IN ('finished', 'aborted')
    GROUP BY ALL
    UNION ALL BY NAME
    SELECT
      prompt_name,
      prompt_version,
      count(*) AS calls,
      count(*) FILTER (
        kind IN ('llm.call.failed', 'llm.call.crashed') OR (kind = 'llm.call.aborted' AND error_type <> 'interrupted')
      ) AS failed,
      count(*) FILTER (kind = 'llm.call.cached') AS cached,
      quantile_cont(latency_ms, [0.5, 0.95]) FILTER (kind = 'llm.call.finished') AS latency,
      min(occurred_at) AS first_used_at,
      max(occurred_at) AS last_used_at
    FROM events
    WHERE prompt_name IS NOT NULL AND is_end(kind)
    GROUP BY ALL
  ),
  used AS (
    SELECT
      prompt_name,
      prompt_version,
      sum(calls)::BIGINT AS calls,
      sum(failed)::BIGINT AS failed,
      sum(cached)::BIGINT AS cached,
      sum(billed)::BIGINT AS billed,
      sum(priced)::BIGINT AS priced,
      sum(input_tokens)::BIGINT AS input_tokens,
      sum(output_tokens)::BIGINT AS output_tokens,
      sum(repriced_usd) AS repriced_usd,
      sum(cost_usd) AS cost_usd,
      any_value(latency) AS latency,
      min(first_used_at) AS first_used_at,
      max(last_used_at) AS last_used_at
    FROM ends
    GROUP BY ALL
  ),
  judged AS (
    SELECT prompt_name, prompt_version, count(*) AS feedback, avg(score) AS mean_feedback
    FROM feedback
    WHERE prompt_name IS NOT NULL
    GROUP BY ALL
  )
SELECT
  prompt_name,
  prompt_version,
  coalesce(labels, []) AS labels,  -- The labels that point to it now.
  coalesce(calls, 0) AS calls,  -- Calls that ended, failed ones included.
  coalesce(failed, 0) AS failed,  -- Failed, crashed, or cut by somebody other than the reader.
  failed / calls AS failure_rate,  -- Share of the calls that failed.
  coalesce(cached, 0) AS cached,  -- Calls that the response cache answered.
  coalesce(input_tokens, 0) AS input_tokens,
  coalesce(output_tokens, 0) AS output_tokens,
  coalesce(repriced_usd, 0) AS cost_usd,  -- By the table `prices`.
  coalesce(billed, 0) AS billed,  -- Calls that took tokens.
  coalesce(priced, 0) AS priced,  -- Those of them with a known price: `cost_usd` is of these.
  coalesce(cost_usd, 0) AS recorded_usd,  -- As recorded when the calls were made.
  latency[1] AS p50_latency_ms,  -- Median of the answers, in milliseconds.
  latency[2] AS p95_latency_ms,  -- Of 100 answers, 95 took no longer, in milliseconds.
  coalesce(feedback, 0) AS feedback,  -- How often an answer was judged.
  mean_feedback,  -- Mean score, from -1 to 1.
  first_used_at,  -- End of the first call.
  last_used_at,  -- End of the last call.
  added_at,  -- When it was registered; NULL for a version that only calls name.
  description
FROM added
FULL JOIN used USING (prompt_name, prompt_version)
LEFT JOIN labelled USING (prompt_name, prompt_version)
LEFT JOIN judged USING (prompt_name, prompt_version)
