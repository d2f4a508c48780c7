-- One row for each judgement of an answer, with the call that was judged.
SELECT
  given.call_id,
  given.occurred_at AS given_at,  -- When it was judged.
  given.score,
  given.comment,
  given.user_id AS judged_by,  -- Who judged; the call's own user is in `calls`.
  ended.provider,
  ended.request_model,
  ended.prompt_name,
  ended.prompt_version
FROM (
  SELECT call_id, provider, request_model, prompt_name, prompt_version FROM events WHERE is_end(kind)
) AS ended
RIGHT JOIN (
  SELECT * FROM events WHERE kind = 'llm.feedback.given'
) AS given USING (call_id)
