-- How much is known of each day: calls without a price, with estimated tokens, without an end; what was lost.
WITH
  ended AS (
    SELECT
      day,
      sum(calls)::BIGINT AS calls,
      coalesce(sum(calls) FILTER (kind IN ('llm.call.finished', 'llm.call.aborted')), 0)::BIGINT AS billed,
      coalesce(sum(calls) FILTER (kind = 'llm.call.crashed'), 0)::BIGINT AS crashed,
      coalesce(sum(calls) FILTER (kind = 'llm.call.aborted'), 0)::BIGINT AS aborted,
      coalesce(sum(estimated) FILTER (kind IN ('llm.call.finished', 'llm.call.aborted')), 0)::BIGINT AS estimated
    FROM counted_by_day
    GROUP BY ALL
  ),
  priced AS (
    SELECT day, sum(priced)::BIGINT AS priced FROM spent_by_day GROUP BY ALL
  ),
  running AS (
    SELECT day, count(*) AS running
    FROM (SELECT call_id, day FROM open_calls WHERE kind = 'llm.call.started') AS started
    ANTI JOIN (SELECT call_id FROM open_calls WHERE kind = 'ended') AS ended USING (call_id)
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
ORDER BY ALL
