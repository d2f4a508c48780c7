-- What was spent at each provider, by today's prices.
SELECT
  provider,
  sum(calls)::BIGINT AS calls,  -- Calls that ended, failed ones included.
  coalesce(sum(calls) FILTER (status IN ('failed', 'crashed')), 0)::BIGINT AS failed,  -- Calls that ended without an answer.
  coalesce(sum(calls) FILTER (status = 'aborted'), 0)::BIGINT AS aborted,  -- Answers that were cut.
  coalesce(sum(calls) FILTER (status = 'cached'), 0)::BIGINT AS cached,  -- Calls that the response cache answered.
  coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
  coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
  CAST(coalesce(sum(repriced_usd), 0) AS DECIMAL(38, 12)) AS cost_usd,  -- By the table `prices`.
  coalesce(sum(cost_usd), 0)::DECIMAL(38, 9) AS recorded_usd,  -- As recorded when the calls were made.
  coalesce(sum(saved_usd), 0)::DECIMAL(38, 9) AS saved_usd,  -- By the response cache.
  (sum(billed) - sum(priced))::BIGINT AS unpriced,  -- Calls without a known price.
  sum(priced) / nullif(sum(billed), 0) AS known_share  -- Share of the calls that took tokens whose price is known: `cost_usd` is of these.
FROM spent_by_day
GROUP BY ALL
ORDER BY ALL
