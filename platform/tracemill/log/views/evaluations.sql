-- One row for each evaluation and figure: what was measured, between which bounds, and whether that is enough.
SELECT
  substr(stream, 12) AS evaluation_id,
  payload ->> '$.name' AS name,
  payload ->> '$.model' AS model,  -- Who answered, or what else stood in its place.
  prompt_name,
  prompt_version,
  payload ->> '$.dataset' AS dataset,  -- The cases: a file in evals/, a split, a view over the log.
  payload ->> '$.dataset_digest' AS dataset_digest,  -- Of the cases: figures compare only where it is the same.
  figure,  -- What was measured, such as accuracy.
  measured.value AS value,  -- What was seen.
  measured.low AS low,  -- Where the true value lies in 95 of 100 cases: the lower end.
  measured.high AS high,  -- The upper end.
  measured.n AS n,  -- Over how many cases.
  CAST(payload -> '$.thresholds' AS MAP(VARCHAR, DOUBLE))[figure] AS threshold,  -- What it had to reach; NULL where nothing was asked of it.
  payload ->> '$.outcome' AS outcome,  -- Of the evaluation: pass, fail or not_enough_data.
  payload ->> '$.reason' AS reason,  -- The outcome in a sentence.
  CAST(payload ->> '$.cases' AS BIGINT) AS cases,
  CAST(payload ->> '$.samples' AS BIGINT) AS samples,
  CAST(payload ->> '$.failed' AS BIGINT) AS failed,  -- Calls without an answer; they count as wrong.
  cost_usd,
  latency_ms,  -- Of a call, the median, in milliseconds.
  occurred_at AS finished_at  -- When it was finished.
FROM (
  SELECT *, unnest(map_keys(figures)) AS figure, unnest(map_values(figures)) AS measured
  FROM (
    SELECT
      *,
      CAST(payload -> '$.metrics' AS MAP(VARCHAR, STRUCT("value" DOUBLE, low DOUBLE, high DOUBLE, n BIGINT))) AS figures
    FROM events
    WHERE kind = 'evaluation.finished'
  )
)
