-- One row for each decision of the guard.
SELECT
  payload ->> '$.call_id' AS call_id,
  occurred_at AS decided_at,  -- When it was decided.
  payload ->> '$.rule' AS rule,
  payload ->> '$.side' AS side,
  payload ->> '$.action' AS action,
  payload -> '$.found' AS found,
  payload ->> '$.message' AS message
FROM events
WHERE kind = 'llm.guard.decided'
