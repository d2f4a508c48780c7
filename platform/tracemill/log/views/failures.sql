-- The calls without a good answer: failed, crashed, cut by an error, refused or filtered. `signature` is the same for failures that differ only in numbers, ids, quoted values and urls.
SELECT
  ended.call_id,
  ended.position,
  ended.occurred_at AS ended_at,  -- When it came to its end.
  substr(ended.kind, 10) AS status,  -- Failed, aborted, crashed; finished where the model refused or a filter stepped in.
  ended.provider,
  ended.request_model,
  ended.why AS error_type,  -- The provider's class of error; `crashed`, `refusal` or `content_filter`.
  ended.message AS error_message,  -- What went wrong, in the words of who told; of a refusal, its reason.
  ended.why || coalesce(': ' || pattern_of(ended.message), '') AS signature,  -- The class of error and the message, with placeholders for what differs from time to time.
  ended.latency_ms,
  ended.conversation_id,
  ended.user_id,
  ended.prompt_name,
  ended.prompt_version,
  prompt_of(started.payload -> '$.messages') AS prompt  -- The text of the last user message.
FROM events AS started
RIGHT JOIN (
  SELECT
    *,
    CASE
      WHEN kind = 'llm.call.crashed' THEN 'crashed'
      WHEN kind = 'llm.call.finished' THEN finish_reason
      ELSE error_type
    END AS why,
    CASE kind
      WHEN 'llm.call.crashed' THEN 'the process that made the call ended without a word'
      ELSE error_message
    END AS message
  FROM events
  WHERE kind IN ('llm.call.failed', 'llm.call.crashed')
    OR (kind = 'llm.call.aborted' AND error_type <> 'interrupted')
    OR (kind = 'llm.call.finished' AND finish_reason IN ('refusal', 'content_filter'))
) AS ended
  -- Both sides stand in the second condition, or DuckDB would hold every start in memory for a few ends.
  ON started.call_id = ended.call_id AND started.kind = CASE WHEN ended.kind IS NOT NULL THEN 'llm.call.started' END
