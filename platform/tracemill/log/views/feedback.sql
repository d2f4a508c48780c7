-- One row for each judgement of an answer, with the call that was judged.
SELECT
  substr(given.stream, 10) AS call_id,
  given.occurred_at AS given_at,  -- When it was judged.
  TRY_CAST(given.payload ->> '$.score' AS DOUBLE) AS score,
  given.payload ->> '$.comment' AS comment,
  given.user_id AS judged_by,  -- Who judged; the call's own user is in `calls`.
  ended.provider,
  ended.request_model,
  ended.prompt_name,
  ended.prompt_version
FROM (
  SELECT stream, provider, request_model, prompt_name, prompt_version FROM events WHERE is_end(kind)
) AS ended
RIGHT JOIN (
  SELECT *, 'call:' || substr(stream, 10) AS judged FROM events WHERE kind = 'llm.feedback.given'
) AS given ON ended.stream = given.judged
