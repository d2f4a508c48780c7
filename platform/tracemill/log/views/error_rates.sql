-- How many calls failed, day by day, model and class of error, and what retries did about it. A row without a class counts all classes.
WITH
  ended AS (
    SELECT day, provider, request_model, class, sum(calls) AS calls FROM counted_by_day GROUP BY ALL
  ),
  -- A call counts once for each class, however often it met it.
  met AS (
    SELECT
      call_id,
      CAST(max(occurred_at) AS DATE) AS day,
      provider,
      request_model,
      error_type AS class,
      count(*) AS retries,
      sum(wait_ms) AS waited_ms
    FROM events
    WHERE kind = 'llm.call.retried'
    GROUP BY ALL
  ),
  -- From the second attempt on: few, so that their streams are found fast.
  won AS (
    SELECT call_id FROM events WHERE kind = 'llm.call.finished' AND attempts > 1
  ),
  spent AS (
    SELECT
      day,
      provider,
      request_model,
      class,
      sum(retries) AS retries,
      sum(waited_ms) AS waited_ms,
      count(*) FILTER (won.call_id IS NOT NULL) AS recovered
    FROM met
    LEFT JOIN won USING (call_id)
    GROUP BY ALL
  ),
  classes AS (
    SELECT day, provider, request_model, class, calls AS failed, 0 AS retries, 0 AS waited_ms, 0 AS recovered
    FROM ended
    WHERE class IS NOT NULL
    UNION ALL BY NAME
    SELECT day, provider, request_model, class, 0 AS failed, retries, waited_ms, recovered FROM spent
  ),
  summed AS (
    SELECT
      day,
      provider,
      request_model,
      class,
      sum(failed)::BIGINT AS failed,
      sum(retries)::BIGINT AS retries,
      sum(waited_ms)::DOUBLE AS waited_ms,
      sum(recovered)::BIGINT AS recovered
    FROM classes
    GROUP BY GROUPING SETS ((day, provider, request_model, class), (day, provider, request_model))
  ),
  totals AS (
    SELECT day, provider, request_model, sum(calls)::BIGINT AS calls FROM ended GROUP BY ALL
  )
SELECT
  day,  -- Of the end of the calls, or of the last attempt that failed, in UTC.
  provider,
  request_model,
  class AS error_type,  -- The provider's class of error, or `crashed`; NULL for all together.
  coalesce(totals.calls, 0) AS calls,  -- Calls that ended on this day, of any outcome.
  coalesce(failed, 0) AS failed,  -- Those without a whole answer; not those that their reader stopped.
  coalesce(failed, 0) / totals.calls AS failed_share,  -- The one by the other.
  coalesce(retries, 0) AS retries,  -- Attempts that failed and were followed by another.
  coalesce(waited_ms, 0) AS waited_ms,  -- Spent waiting for the next attempt, in milliseconds.
  coalesce(recovered, 0) AS recovered  -- Calls that met the error and were answered in the end; without a class, once for each.
FROM totals
FULL JOIN summed USING (day, provider, request_model)
ORDER BY ALL
