-- Versions of a prompt side by side: how often they failed, what a call cost and took, how they were judged and measured.
WITH
  newest AS (
    SELECT
      prompt_name,
      prompt_version,
      dataset_digest,
      any_value(dataset) AS dataset,
      figure,
      max_by({value: value, low: low, high: high, n: n}, finished_at) AS measured,
      max(finished_at) AS measured_at,
      max_by(outcome, finished_at) AS outcome
    FROM evaluations
    WHERE prompt_name IS NOT NULL
    GROUP BY ALL
  ),
  -- Of several sets of cases the one that was used last: figures of different cases do not compare.
  evaluated AS (
    SELECT
      prompt_name,
      prompt_version,
      any_value(dataset) AS dataset,
      any_value(dataset_digest) AS dataset_digest,
      map_from_entries(list({key: figure, value: measured} ORDER BY figure)) AS figures,
      max(measured_at) AS evaluated_at,
      max_by(outcome, measured_at) AS outcome
    FROM newest
    WHERE (prompt_name, prompt_version, dataset_digest) IN (
      SELECT (prompt_name, prompt_version, max_by(dataset_digest, measured_at)) FROM newest GROUP BY prompt_name, prompt_version)
    GROUP BY ALL
  )
SELECT
  prompt_name,
  prompt_version,
  labels,  -- The labels that point to it now.
  calls,  -- Calls that ended, failed ones included.
  failed,  -- Failed, crashed, or cut by somebody other than the reader.
  failure_rate,  -- Share of the calls that failed.
  cost_usd / nullif(priced, 0) AS cost_per_call_usd,  -- By the table `prices`, of the calls that have a price.
  priced / nullif(billed, 0) AS known_share,  -- Share of the calls that took tokens whose price is known.
  p50_latency_ms,  -- Median of the answers, in milliseconds.
  p95_latency_ms,  -- Of 100 answers, 95 took no longer, in milliseconds.
  feedback,  -- How often an answer was judged.
  mean_feedback,  -- Mean score, from -1 to 1.
  dataset,  -- The cases of the newest evaluation.
  dataset_digest,  -- Of these cases: figures compare only where it is the same.
  figures,  -- Figure to what was measured: value, low, high (where the true value lies in 95 of 100 cases), n.
  outcome,  -- Of that evaluation: pass, fail or not_enough_data.
  evaluated_at,  -- When it was finished.
  last_used_at  -- End of the last call.
FROM prompts
LEFT JOIN evaluated USING (prompt_name, prompt_version)
