-- What was spent under each tag and value, by today's prices; a call counts under each of its tags. Calls whose tags stand on their start alone, as older versions wrote them, count under none.
WITH
  -- Calls with the same tags first: there are few sets of tags, and reading one takes long.
  alike AS (
    SELECT
      metadata,
      sum(calls) AS calls,
      coalesce(sum(calls) FILTER (status IN ('failed', 'crashed')), 0) AS failed,
      coalesce(sum(calls) FILTER (status = 'aborted'), 0) AS aborted,
      coalesce(sum(calls) FILTER (status = 'cached'), 0) AS cached,
      sum(input_tokens) AS input_tokens,
      sum(output_tokens) AS output_tokens,
      sum(repriced_usd) AS repriced_usd,
      sum(cost_usd) AS cost_usd,
      sum(saved_usd) AS saved_usd,
      sum(billed) AS billed,
      sum(priced) AS priced
    FROM spent_by_tags
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
ORDER BY ALL
