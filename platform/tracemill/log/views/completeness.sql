-- How much is known of each day: calls without a price, with estimated tokens, without an end; what was lost.
WITH
  ended AS (
    SELECT
      CAST(occurred_at AS DATE) AS day,
      count(*) AS calls,
      count(*) FILTER (kind IN ('llm.call.finished', 'llm.call.aborted')) AS billed,
      count(*) FILTER (kind = 'llm.call.crashed') AS crashed,
      count(*) FILTER (kind = 'llm.call.aborted') AS aborted,
      count(*) FILTER (kind IN ('llm.call.finished', 'llm.call.aborted') AND usage_estimated) AS estimated
    FROM events
    WHERE is_end(kind)
    GROUP BY ALL
  ),
  priced AS (
    SELECT day, sum(calls - failed - cached - unpriced)::BIGINT AS priced FROM costs_by_day GROUP BY ALL
  ),
  running AS (
    SELECT CAST(occurred_at AS DATE) AS day, count(*) AS running
    FROM (SELECT stream, occurred_at FROM events WHERE kind = 'llm.call.started') AS started
    ANTI JOIN (SELECT stream FROM events WHERE is_end(kind)) AS ended USING (stream)
    GROUP BY ALL
  ),
  lost AS (
    SELECT
      CAST(occurred_at AS DATE) AS day,
      sum(CAST(payload ->> '$.through_position' AS BIGINT) - CAST(payload ->> '$.after_position' AS BIGINT))::BIGINT AS lost_events
    FROM events
    WHERE kind = 'log.tail_lost'
    GROUP BY ALL
  )
SELECT
  day,  -- In UTC: of the end of calls, of the start of those that run, of the moment when a loss was seen.
  coalesce(calls, 0) AS calls,  -- Calls that ended.
  coalesce(billed, 0) AS billed,  -- Those that took tokens: finished and aborted ones.
  coalesce(priced, 0) AS priced,  -- Those of them with a known price.
  coalesce(billed - coalesce(priced, 0), 0) AS unpriced,  -- Those of them without: sums of money are without these.
  coalesce(estimated, 0) AS estimated,  -- Those of them whose tokens were counted here, for the provider told none.
  coalesce(running, 0) AS running,  -- Calls that began on this day and have no end.
  coalesce(crashed, 0) AS crashed,  -- Calls whose process was gone: what they cost is not known.
  coalesce(aborted, 0) AS aborted,  -- Answers that were cut.
  coalesce(lost_events, 0) AS lost_events,  -- Acknowledged events that a power failure took.
  coalesce(priced, 0) / nullif(coalesce(billed, 0) + coalesce(crashed, 0), 0) AS known_share  -- Share of the calls that may have cost something whose cost is known.
FROM ended
FULL JOIN priced USING (day)
FULL JOIN running USING (day)
FULL JOIN lost USING (day)
