-- Fine-tunes and batches: what is asked of a provider and takes hours, where it stands, since when.
WITH
  batches AS (
    SELECT
      substr(stream, 7) AS job_id,
      any_value(payload) FILTER (kind = 'llm.batch.submitted') AS submitted,
      min(occurred_at) FILTER (kind = 'llm.batch.submitted') AS requested_at,
      arg_max(
        CASE kind
          WHEN 'llm.batch.collected' THEN 'collected'
          WHEN 'llm.batch.submitted' THEN 'submitted'
          ELSE payload ->> '$.state'
        END, position) AS state,
      arg_max(payload ->> '$.error_message', position) AS error,
      max(occurred_at) FILTER (kind = 'llm.batch.collected' OR (payload ->> '$.state') = 'failed') AS ended_at,
      any_value(payload) FILTER (kind = 'llm.batch.collected') AS collected,
      list(occurred_at ORDER BY position) AS times,
      list(coalesce(payload ->> '$.state', kind) ORDER BY position) AS states
    FROM events
    WHERE kind IN ('llm.batch.submitted', 'llm.batch.progressed', 'llm.batch.collected')
    GROUP BY stream
  ),
  told AS (
    -- What ended does not begin again: a trainer may be heard of late.
    SELECT
      substr(stream, 10) AS job_id,
      position,
      occurred_at,
      CASE kind
        WHEN 'finetune.progressed' THEN payload ->> '$.state'
        WHEN 'finetune.resumed' THEN 'running'
        ELSE substr(kind, 10)
      END AS state,
      lag(state) OVER (PARTITION BY stream ORDER BY position) IS DISTINCT FROM state AS is_new
    FROM events
    WHERE kind IN (
      'finetune.requested', 'finetune.validated', 'finetune.created', 'finetune.progressed',
      'finetune.paused', 'finetune.resumed', 'finetune.succeeded', 'finetune.failed', 'finetune.cancelled')
  ),
  since AS (
    SELECT job_id, state, max(occurred_at) AS since FROM told WHERE is_new GROUP BY ALL
  )
SELECT
  'finetune' AS kind,  -- `finetune` or `batch`.
  job_id,
  name AS what,  -- The name of the model, or the model that a batch asks.
  provider,
  state,  -- Where it stands: as in `finetunes`; of a batch: submitted, created, running, cancelling, unknown, ended, failed, collected.
  since,  -- When it came to stand there.
  requested_at,  -- When somebody asked for it.
  ended_at,  -- NULL while it is under way.
  epoch(ended_at - requested_at) AS duration_s,  -- From the request to the end, in seconds; NULL while it is under way.
  step / nullif(total_steps, 0) AS progress,  -- The share that is done, where it is known.
  rows AS items,  -- Examples, or calls.
  NULL::BIGINT AS failed,  -- Calls of a batch that were not answered; NULL while it is under way.
  cost_usd,  -- What a fine-tune cost; the calls of a batch are in `call_costs`.
  error  -- Why it failed.
FROM finetunes
LEFT JOIN since USING (job_id, state)
UNION ALL BY NAME
SELECT
  'batch' AS kind,
  job_id,
  submitted ->> '$.request_model' AS what,
  submitted ->> '$.provider' AS provider,
  state,
  -- The first moment after the last other state.
  times[1 + coalesce(list_max([i FOR i IN generate_series(1, len(states)) IF states[i] IS DISTINCT FROM states[-1]]), 0)] AS since,
  requested_at,
  ended_at,
  epoch(ended_at - requested_at) AS duration_s,
  CASE WHEN collected IS NOT NULL THEN 1.0 END AS progress,
  CAST(json_array_length(json_keys(submitted -> '$.calls')) AS BIGINT) AS items,
  CAST(collected ->> '$.failed' AS BIGINT) AS failed,
  error
FROM batches
WHERE submitted IS NOT NULL
