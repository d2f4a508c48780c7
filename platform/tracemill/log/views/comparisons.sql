-- One row for each comparison of two evaluations and figure: what changed, how sure that is, and the verdict.
SELECT
  event_id AS comparison_id,  -- What a promotion names as its evidence.
  substr(stream, 12) AS evaluation_id,
  payload ->> '$.reference_id' AS reference_id,
  payload ->> '$.against' AS against,
  payload ->> '$.name' AS name,
  payload ->> '$.model' AS model,  -- Who answered in the evaluation.
  payload ->> '$.reference_model' AS reference_model,  -- Who answered in the one that it was held against.
  payload ->> '$.dataset' AS dataset,  -- The cases of both.
  payload ->> '$.dataset_digest' AS dataset_digest,  -- Of the cases.
  figure,  -- What was compared, such as accuracy.
  CAST(tested ->> '$.before' AS DOUBLE) AS before,  -- That of the reference; NULL where it has none.
  CAST(tested ->> '$.after' AS DOUBLE) AS after,  -- That of the candidate; NULL where it has none.
  CAST(tested ->> '$.difference' AS DOUBLE) AS difference,  -- After less before, on the cases of both.
  CAST(tested ->> '$.low' AS DOUBLE) AS low,  -- Where the true difference lies in 95 of 100 cases: the lower end.
  CAST(tested ->> '$.high' AS DOUBLE) AS high,  -- The upper end.
  CAST(tested ->> '$.p' AS DOUBLE) AS p,  -- How likely a change for the worse as large as this is by chance alone.
  CAST(tested ->> '$.p_adjusted' AS DOUBLE) AS p_adjusted,  -- The same after Holm's correction for all figures that were tested.
  CAST(tested ->> '$.n' AS BIGINT) AS n,  -- How many cases both have.
  tested ->> '$.test' AS test,  -- Which test: mcnemar, bootstrap, or none.
  CAST(tested ->> '$.tolerance' AS DOUBLE) AS tolerance,  -- How far it may fall behind, in its own unit.
  tested ->> '$.verdict' AS verdict,  -- Of the figure: pass, fail, not_enough_data, missing or new.
  payload ->> '$.outcome' AS outcome,  -- Of the comparison: pass, fail or not_enough_data.
  payload ->> '$.reason' AS reason,  -- The outcome in a sentence.
  occurred_at AS compared_at  -- When it was compared.
FROM (
  SELECT *, unnest(map_keys(figures)) AS figure, unnest(map_values(figures)) AS tested
  FROM (
    SELECT *, CAST(payload -> '$.tests' AS MAP(VARCHAR, JSON)) AS figures
    FROM events
    WHERE kind = 'evaluation.compared'
  )
)
