-- Starts without an end and ends without a start: what began in one file and ended in another, or has not ended.
WITH
  started AS (SELECT call_id, position, occurred_at FROM unsummed WHERE kind = 'llm.call.started'),
  ended AS (SELECT call_id FROM unsummed WHERE is_end(kind))
SELECT call_id, kind, position, day
FROM (
  SELECT call_id, 'llm.call.started' AS kind, position, CAST(occurred_at AS DATE) AS day
  FROM started
  ANTI JOIN ended USING (call_id)
  UNION ALL BY NAME
  SELECT call_id, 'ended' AS kind
  FROM ended
  ANTI JOIN started USING (call_id)
)
