-- One row for each version of a data set: what it was built from, what was left out, which models learned from it and how they did.
WITH
  built AS (
    SELECT
      substr(stream, 9) AS dataset,
      payload ->> '$.digest' AS dataset_digest,
      arg_min(payload, position) AS payload,
      min(occurred_at) AS built_at
    FROM events
    WHERE kind = 'dataset.built'
    GROUP BY ALL
  ),
  learned AS (
    SELECT dataset_digest, list(model ORDER BY registered_at, model) AS models, list(DISTINCT model) AS asked
    FROM models
    GROUP BY dataset_digest
  ),
  judged AS (
    SELECT model, evaluation_id, any_value(outcome) AS outcome, min(finished_at) AS finished_at
    FROM evaluations
    GROUP BY ALL
  ),
  evaluated AS (
    SELECT
      dataset_digest,
      count(*) AS evaluations,
      arg_max(judged.outcome, judged.finished_at) AS last_outcome,
      max(judged.finished_at) AS last_evaluated_at
    FROM (SELECT dataset_digest, unnest(asked) AS model FROM learned)
    JOIN judged USING (model)
    GROUP BY dataset_digest
  ),
  searched AS (
    SELECT
      payload ->> '$.trained_on' AS dataset_digest,
      sum(CAST(payload ->> '$.found' AS BIGINT))::BIGINT AS contaminated
    FROM events
    WHERE kind = 'evaluation.contamination_checked'
    GROUP BY ALL
  )
SELECT
  dataset,
  dataset_digest,  -- The version.
  built_at,  -- When it was first built.
  list_sum(CAST(map_values(CAST(payload -> '$.rows' AS MAP(VARCHAR, BIGINT))) AS BIGINT[]))::BIGINT AS rows,  -- Of all splits together.
  payload -> '$.rows' AS splits,  -- Rows by split.
  coalesce(list_sum(map_values(CAST(payload -> '$.dropped' AS MAP(VARCHAR, BIGINT)))), 0)::BIGINT AS dropped,  -- Rows that were left out.
  payload -> '$.dropped' AS dropped_by,  -- The same, by the name of the step.
  CAST(payload -> '$.inputs' AS VARCHAR[]) AS inputs,  -- Digests of what it was built from.
  CAST(payload ->> '$.log_position' AS BIGINT) AS log_position,  -- The end of the log when it was built.
  payload ->> '$.salt' AS salt,  -- Of the split.
  coalesce(models, []) AS models,  -- Models that were trained on it, the first one first.
  coalesce(evaluations, 0) AS evaluations,  -- How often these were evaluated.
  last_outcome,  -- Of the last of these evaluations: pass, fail or not_enough_data.
  last_evaluated_at,  -- When that was.
  contaminated  -- Cases of evaluations that were found in it; NULL where nobody has looked.
FROM built
LEFT JOIN learned USING (dataset_digest)
LEFT JOIN evaluated USING (dataset_digest)
LEFT JOIN searched USING (dataset_digest)
