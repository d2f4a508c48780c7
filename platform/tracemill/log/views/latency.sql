-- How long answers took, day by day and model, streamed ones apart. Retries and waits are part of it.
SELECT
  day,  -- Of the end of the calls, in UTC.
  provider,
  request_model,
  streamed,  -- True where the time to the first chunk is known.
  calls,  -- Calls that were answered by the model.
  latency[1] AS p50_latency_ms,  -- Half of the answers took no longer, in milliseconds.
  latency[2] AS p95_latency_ms,  -- Of 100 answers, 95 took no longer.
  latency[3] AS p99_latency_ms,  -- Of 100 answers, 99 took no longer.
  first_chunk[1] AS p50_first_chunk_ms,  -- To the first piece of a stream, in milliseconds: the median.
  first_chunk[2] AS p95_first_chunk_ms,  -- Of 100 streams, 95 began no later.
  first_chunk[3] AS p99_first_chunk_ms,  -- Of 100 streams, 99 began no later.
  output_tokens / nullif(latency_sum_ms, 0) * 1000 AS output_tokens_per_s  -- Of all answers together, the time to the first token included.
FROM (
  SELECT
    CAST(occurred_at AS DATE) AS day,
    provider,
    request_model,
    time_to_first_chunk_ms IS NOT NULL AS streamed,
    count(*) AS calls,
    quantile_cont(latency_ms, [0.5, 0.95, 0.99]) AS latency,
    quantile_cont(time_to_first_chunk_ms, [0.5, 0.95, 0.99]) AS first_chunk,
    sum(output_tokens) AS output_tokens,
    sum(latency_ms) AS latency_sum_ms
  FROM events
  WHERE kind = 'llm.call.finished'
  GROUP BY ALL
)
