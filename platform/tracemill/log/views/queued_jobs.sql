-- Jobs: many requests handed over at once, how many of them are answered, and whether anybody was told.
WITH
  submitted AS (
    SELECT substr(stream, 5) AS job_id, position, occurred_at, key_id, payload
    FROM events
    WHERE kind = 'job.submitted'
  ),
  told AS (
    SELECT
      substr(stream, 5) AS job_id,
      arg_max(CASE kind WHEN 'job.ended' THEN payload ->> '$.outcome' ELSE substr(kind, 5) END, position) AS last,
      arg_max(occurred_at, position) AS since,
      CAST(max(coalesce(payload ->> '$.round', '1')::INTEGER) AS INTEGER) AS round
    FROM events
    WHERE kind IN ('job.submitted', 'job.cancelled', 'job.ended', 'job.retried')
    GROUP BY ALL
  ),
  ends AS (
    -- Of a request that was begun again, its last end.
    SELECT job_id, last, count(*) AS n
    FROM (
      SELECT split_part(stream, ':', 2) AS job_id, arg_max(kind, position) AS last
      FROM events
      WHERE kind IN ('job.item.finished', 'job.item.failed', 'job.item.parked')
      GROUP BY job_id, split_part(stream, ':', 4)
    )
    GROUP BY ALL
  ),
  counts AS (
    SELECT
      job_id,
      sum(n) FILTER (last = 'job.item.finished') AS done,
      sum(n) FILTER (last = 'job.item.failed') AS failed,
      sum(n) FILTER (last = 'job.item.parked') AS parked
    FROM ends
    GROUP BY job_id
  ),
  tries AS (
    SELECT split_part(stream, ':', 2) AS job_id, count(*) AS retries
    FROM events
    WHERE kind = 'job.item.retried'
    GROUP BY ALL
  ),
  callbacks AS (
    SELECT
      substr(stream, 14) AS job_id,
      bool_or((payload ->> '$.delivered') = 'true') AS delivered,
      count(*) AS attempts
    FROM events
    WHERE kind = 'job.callback_told'
    GROUP BY ALL
  )
SELECT
  job_id,
  payload ->> '$.name' AS name,
  CASE
    WHEN last = 'retried' THEN 'running'
    WHEN last <> 'submitted' THEN last
    WHEN counts.job_id IS NULL AND tries.job_id IS NULL THEN 'queued'
    ELSE 'running'
  END AS state,  -- queued, running, finished, failed (nothing was answered) or cancelled.
  CAST(payload ->> '$.priority' AS INTEGER) AS priority,
  key_id,
  CAST(payload ->> '$.total' AS BIGINT) AS total,
  CAST(coalesce(done, 0) AS BIGINT) AS done,  -- Requests that were answered.
  CAST(coalesce(failed, 0) AS BIGINT) AS failed,  -- Requests that were refused for good.
  CAST(coalesce(parked, 0) AS BIGINT) AS parked,  -- Requests that were given up after many tries.
  coalesce(retries, 0) AS retries,  -- Tries that brought nothing and were followed by another.
  round,  -- 1, and one more each time that requests were begun again.
  occurred_at AS requested_at,  -- When it was handed over.
  CASE WHEN last NOT IN ('submitted', 'retried') THEN since END AS ended_at,  -- NULL while it is under way.
  epoch(CASE WHEN last NOT IN ('submitted', 'retried') THEN since END - occurred_at) AS duration_s,  -- From the request to the end, in seconds.
  delivered AS callback_delivered,  -- Whether its address has taken the message; NULL where none was sent yet.
  callbacks.attempts AS callback_attempts,  -- How often that was tried.
  position  -- Of its first event.
FROM submitted
JOIN told USING (job_id)
LEFT JOIN counts USING (job_id)
LEFT JOIN tries USING (job_id)
LEFT JOIN callbacks USING (job_id)
