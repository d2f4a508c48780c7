-- What each version of a prompt cost, by today's prices; NULL stands for calls without a registered prompt.
WITH
  ends AS (
    SELECT prompt_name, prompt_version, status, input_tokens, output_tokens, repriced_usd, cost_usd, 0::DECIMAL(18, 9) AS saved_usd
    FROM call_costs
    UNION ALL BY NAME
    SELECT prompt_name, prompt_version, substr(kind, 10) AS status, saved_usd
    FROM events
    WHERE kind IN ('llm.call.failed', 'llm.call.crashed', 'llm.call.cached')
  )
SELECT
  prompt_name,
  prompt_version,
  count(*) AS calls,  -- Calls that ended, failed ones included.
  count(*) FILTER (status IN ('failed', 'crashed')) AS failed,  -- Calls that ended without an answer.
  count(*) FILTER (status = 'aborted') AS aborted,  -- Answers that were cut.
  count(*) FILTER (status = 'cached') AS cached,  -- Calls that the response cache answered.
  coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
  coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
  CAST(coalesce(sum(repriced_usd), 0) AS DECIMAL(38, 12)) AS cost_usd,  -- By the table `prices`.
  coalesce(sum(cost_usd), 0) AS recorded_usd,  -- As recorded when the calls were made.
  coalesce(sum(saved_usd), 0) AS saved_usd,  -- By the response cache.
  count(*) FILTER (status IN ('finished', 'aborted') AND repriced_usd IS NULL) AS unpriced,  -- Calls without a known price.
  count(repriced_usd) / nullif(count(*) FILTER (status IN ('finished', 'aborted')), 0) AS known_share  -- Share of the calls that took tokens whose price is known: `cost_usd` is of these.
FROM ends
GROUP BY ALL
