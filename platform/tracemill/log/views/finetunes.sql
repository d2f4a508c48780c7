-- One row for each fine-tune: what was asked for, how far it is, what came of it.
WITH told AS (
  -- What ended does not begin again: a trainer may be heard of late.
  SELECT *, kind IN ('finetune.succeeded', 'finetune.failed', 'finetune.cancelled') AS ended
  FROM events
  WHERE kind IN (
    'finetune.requested', 'finetune.validated', 'finetune.created', 'finetune.progressed',
    'finetune.paused', 'finetune.resumed', 'finetune.succeeded', 'finetune.failed', 'finetune.cancelled')
  QUALIFY coalesce(bool_or(ended) OVER (
    PARTITION BY stream ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), false) = false
)
SELECT
  substr(stream, 10) AS job_id,
  any_value(payload ->> '$.name') FILTER (kind = 'finetune.requested') AS name,
  any_value(payload ->> '$.provider') FILTER (kind = 'finetune.requested') AS provider,
  any_value(payload ->> '$.base_model') FILTER (kind = 'finetune.requested') AS base_model,
  any_value(payload ->> '$.method') FILTER (kind = 'finetune.requested') AS method,
  arg_max(
    CASE kind
      WHEN 'finetune.progressed' THEN payload ->> '$.state'
      WHEN 'finetune.resumed' THEN 'running'
      ELSE substr(kind, 10)
    END, position) AS state,  -- Requested, validated, created, validating, queued, running, paused, cancelling, unknown, succeeded, failed or cancelled.
  arg_max(CAST(payload ->> '$.step' AS BIGINT), position) FILTER (kind = 'finetune.progressed') AS step,  -- Steps that are done.
  arg_max(CAST(payload ->> '$.total_steps' AS BIGINT), position) AS total_steps,
  arg_max(CAST(payload ->> '$.loss' AS DOUBLE), position) AS loss,  -- The last that was told, on the examples that are learned from.
  arg_max(
    CASE
      WHEN kind IN ('finetune.progressed', 'finetune.succeeded') AND (payload ->> '$.metrics') <> '{}'
      THEN payload -> '$.metrics'
    END, position) AS metrics,  -- What else was measured last.
  any_value(CAST(payload ->> '$.training.rows' AS BIGINT)) AS rows,  -- Examples that are learned from.
  any_value(payload ->> '$.dataset') AS dataset,
  any_value(payload ->> '$.dataset_digest') AS dataset_digest,
  min(occurred_at) FILTER (kind = 'finetune.requested') AS requested_at,  -- When somebody asked for it.
  min(occurred_at) FILTER (kind = 'finetune.created') AS started_at,  -- When the trainer took it; NULL until then.
  max(occurred_at) FILTER (ended) AS ended_at,  -- NULL while it runs.
  epoch(max(occurred_at) FILTER (ended) - min(occurred_at) FILTER (kind = 'finetune.created')) AS duration_s,  -- From start to end, in seconds.
  any_value(TRY_CAST(payload ->> '$.estimated_cost_usd' AS DECIMAL(18, 9))) AS estimated_cost_usd,
  any_value(CAST(payload ->> '$.trained_tokens' AS BIGINT)) FILTER (kind = 'finetune.succeeded') AS trained_tokens,
  any_value(cost_usd) FILTER (kind = 'finetune.succeeded') AS cost_usd,  -- What it cost; NULL where no price is known.
  any_value(payload ->> '$.model') FILTER (kind = 'finetune.succeeded') AS model,  -- The model's name for a request; NULL where there is none.
  any_value(payload ->> '$.model_digest') AS model_digest,
  any_value(coalesce(payload ->> '$.error_message', payload ->> '$.reason')) FILTER (ended) AS error  -- Why there is no model.
FROM told
GROUP BY stream
HAVING bool_or(kind = 'finetune.requested')
