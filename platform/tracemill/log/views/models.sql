-- One row for each version of a model: what it was made of, and whether it is in production.
WITH
  registered AS (
    SELECT
      substr(stream, 7) AS name,
      payload ->> '$.digest' AS digest,
      arg_min(payload, position) AS payload,
      min(position) AS position,
      min(occurred_at) AS registered_at
    FROM events
    WHERE kind = 'model.registered'
    GROUP BY ALL
  ),
  said AS (
    SELECT
      substr(stream, 7) AS name,
      payload ->> '$.digest' AS digest,
      kind,
      position,
      occurred_at,
      payload ->> '$.reason' AS reason
    FROM events
    WHERE kind IN ('model.promoted', 'model.rolled_back', 'model.retired', 'model.promotion_refused')
  ),
  put AS (
    -- Each that was put into production, and the one that it took the place of.
    SELECT said.*, lag(said.digest) OVER (PARTITION BY name ORDER BY said.position) AS left_digest
    FROM said
    JOIN registered USING (name, digest)
    WHERE kind IN ('model.promoted', 'model.rolled_back') AND registered.position < said.position
  ),
  serving AS (
    SELECT name, arg_max(digest, position) AS digest FROM put GROUP BY name
  ),
  serving_then AS (
    -- What was in production cannot be retired: such an event changes nothing.
    SELECT said.*, put.digest AS then_serving FROM said ASOF LEFT JOIN put ON said.name = put.name AND said.position > put.position
    WHERE said.kind IN ('model.retired', 'model.promotion_refused')
  ),
  changes AS (
    SELECT name, digest, position, occurred_at, reason, kind <> 'model.promotion_refused' AS was_moved FROM put
    UNION ALL BY NAME
    SELECT
      name,
      left_digest AS digest,
      position,
      occurred_at,
      CASE kind WHEN 'model.promoted' THEN 'replaced by ' || left(digest, 8) ELSE reason END AS reason,
      true AS was_moved
    FROM put
    WHERE left_digest <> digest
    UNION ALL BY NAME
    SELECT name, digest, position, occurred_at, reason, kind = 'model.retired' AS was_moved
    FROM serving_then
    WHERE kind = 'model.promotion_refused' OR digest IS DISTINCT FROM then_serving
  ),
  last_change AS (
    SELECT
      name,
      digest,
      bool_or(was_moved) AS was_moved,
      arg_max(changes.reason, changes.position) AS reason,
      arg_max(changes.occurred_at, changes.position) AS changed_at
    FROM changes
    JOIN registered USING (name, digest)
    WHERE changes.position > registered.position
    GROUP BY ALL
  )
SELECT
  name,
  digest,
  payload ->> '$.model' AS model,  -- How it is called: a name for a request.
  CASE
    WHEN serving.digest IS NOT NULL THEN 'production'
    WHEN was_moved THEN 'retired'
    ELSE 'candidate'
  END AS state,  -- Candidate, production or retired.
  coalesce(last_change.reason, 'nobody has promoted it') AS reason,  -- Why it is in this state, or was refused another.
  coalesce(last_change.changed_at, registered_at) AS changed_at,  -- When somebody last said something about it.
  payload ->> '$.provider' AS provider,
  payload ->> '$.base_model' AS base_model,
  payload ->> '$.method' AS method,
  payload ->> '$.job_id' AS job_id,
  payload ->> '$.dataset' AS dataset,
  payload ->> '$.dataset_digest' AS dataset_digest,
  payload ->> '$.split' AS split,  -- The split that it was trained on.
  CAST(payload ->> '$.rows' AS BIGINT) AS rows,  -- Examples that it was trained on.
  payload -> '$.metrics' AS metrics,  -- What the trainer told of it.
  CAST(payload ->> '$.size_bytes' AS BIGINT) AS size_bytes,  -- Of the artefact, where it is here.
  TRY_CAST(payload ->> '$.training_cost_usd' AS DECIMAL(18, 9)) AS training_cost_usd,
  registered_at  -- When it was trained.
FROM registered
LEFT JOIN serving USING (name, digest)
LEFT JOIN last_change USING (name, digest)
