-- One row for each evaluation of a collection: which version, by which questions, how well it did.
SELECT
  payload ->> '$.index' AS collection,  -- The collection that was searched.
  payload ->> '$.index_digest' AS version,  -- The version of it.
  occurred_at AS evaluated_at,  -- When it was evaluated.
  payload ->> '$.mode' AS mode,
  payload ->> '$.embedding_model' AS embedding_model,
  payload ->> '$.dataset_digest' AS dataset_digest,
  CAST(payload ->> '$.questions' AS BIGINT) AS questions,
  CAST(payload ->> '$.unanswerable' AS BIGINT) AS unanswerable,
  CAST(payload ->> '$.metrics."recall@1"' AS DOUBLE) AS recall_at_1,  -- Share of questions with a right chunk at rank 1.
  CAST(payload ->> '$.metrics."recall@5"' AS DOUBLE) AS recall_at_5,  -- The same among the first 5.
  CAST(payload ->> '$.metrics."recall@10"' AS DOUBLE) AS recall_at_10,  -- The same among the first 10.
  CAST(payload ->> '$.metrics."mrr@10"' AS DOUBLE) AS mrr_at_10,  -- Mean of 1 / rank of the first right chunk.
  CAST(payload ->> '$.metrics."ndcg@10"' AS DOUBLE) AS ndcg_at_10,  -- Normalised discounted cumulative gain of the first 10.
  payload ->> '$.answer_model' AS answer_model,
  CAST(payload ->> '$.metrics.answered' AS DOUBLE) AS answered,  -- Of the questions with an answer, the share that was answered.
  CAST(payload ->> '$.metrics.answer_precision' AS DOUBLE) AS answer_precision,  -- Of the answers, the share that is right.
  CAST(payload ->> '$.metrics.not_found_precision' AS DOUBLE) AS not_found_precision,  -- Of the refusals, the share whose question has no answer.
  CAST(payload ->> '$.metrics.not_found_recall' AS DOUBLE) AS not_found_recall,  -- Of the questions without an answer, the share that was refused.
  CAST(payload ->> '$.metrics.citation_precision' AS DOUBLE) AS citation_precision,  -- Of the citations, the share that supports its sentence.
  CAST(payload ->> '$.metrics.faithful' AS DOUBLE) AS faithful,  -- Of the answers, the share with every sentence cited and supported.
  latency_ms  -- How long a question's retrieval took, on average, in milliseconds.
FROM events
WHERE kind = 'retrieval.evaluated'
