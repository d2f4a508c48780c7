-- What was spent under each tag and value, by today's prices; a call counts under each of its tags. Calls whose tags stand on their start alone, as older versions wrote them, count under none.
WITH
  ends AS (
    SELECT metadata, status, input_tokens, output_tokens, repriced_usd, cost_usd, 0::DECIMAL(18, 9) AS saved_usd
    FROM call_costs
    UNION ALL BY NAME
    SELECT metadata, substr(kind, 10) AS status, saved_usd
    FROM events
    WHERE kind IN ('llm.call.failed', 'llm.call.crashed', 'llm.call.cached')
  ),
  -- Calls with the same tags first: there are few sets of tags, and reading one takes long.
  alike AS (
    SELECT
      metadata,
      count(*) AS calls,
      count(*) FILTER (status IN ('failed', 'crashed')) AS failed,
      count(*) FILTER (status = 'aborted') AS aborted,
      count(*) FILTER (status = 'cached') AS cached,
      sum(input_tokens) AS input_tokens,
      sum(output_tokens) AS output_tokens,
      sum(repriced_usd) AS repriced_usd,
      sum(cost_usd) AS cost_usd,
      sum(saved_usd) AS saved_usd,
      count(*) FILTER (status IN ('finished', 'aborted')) AS billed,
      count(repriced_usd) AS priced
    FROM ends
    GROUP BY metadata
  ),
  tagged AS (
    SELECT *, unnest(CASE
      WHEN metadata IS NULL THEN [NULL]
      ELSE map_entries(CAST(CAST(metadata AS JSON) AS MAP(VARCHAR, VARCHAR)))
    END) AS entry
    FROM alike
  )
SELECT
  entry.key AS tag,  -- Its name; NULL for calls without any.
  entry.value AS value,  -- What it says.
  sum(calls)::BIGINT AS calls,  -- Calls that ended, failed ones included.
  sum(failed)::BIGINT AS failed,  -- Calls that ended without an answer.
  sum(aborted)::BIGINT AS aborted,  -- Answers that were cut.
  sum(cached)::BIGINT AS cached,  -- Calls that the response cache answered.
  coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
  coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
  CAST(coalesce(sum(repriced_usd), 0) AS DECIMAL(38, 12)) AS cost_usd,  -- By the table `prices`.
  coalesce(sum(cost_usd), 0)::DECIMAL(38, 9) AS recorded_usd,  -- As recorded when the calls were made.
  coalesce(sum(saved_usd), 0)::DECIMAL(38, 9) AS saved_usd,  -- By the response cache.
  (sum(billed) - sum(priced))::BIGINT AS unpriced,  -- Calls without a known price.
  sum(priced) / nullif(sum(billed), 0) AS known_share  -- Share of the calls that took tokens whose price is known: `cost_usd` is of these.
FROM tagged
GROUP BY ALL
