-- The calls without a good answer: failed, crashed, cut by an error, refused or filtered. `signature` is the same for failures that differ only in numbers, ids, quoted values and urls.
SELECT
  substr(ended.stream, 6) AS call_id,
  ended.position,
  ended.occurred_at AS ended_at,  -- When it came to its end.
  substr(ended.kind, 10) AS status,  -- Failed, aborted, crashed; finished where the model refused or a filter stepped in.
  ended.provider,
  ended.request_model,
  ended.why AS error_type,  -- The provider's class of error; `crashed`, `refusal` or `content_filter`.
  ended.message AS error_message,  -- What went wrong, in the words of who told; of a refusal, its reason.
  ended.why || coalesce(': ' || pattern_of(ended.message), '') AS signature,  -- The class of error and the message, with placeholders for what differs from time to time.
  ended.latency_ms,
  coalesce(ended.conversation_id, started.conversation_id) AS conversation_id,
  ended.user_id,
  coalesce(ended.prompt_name, started.prompt_name) AS prompt_name,
  coalesce(ended.prompt_version, started.prompt_version) AS prompt_version,
  prompt_of(started.payload -> '$.messages') AS prompt  -- The text of the last user message.
FROM (
  SELECT
    *,
    CASE kind
      WHEN 'llm.call.crashed' THEN 'crashed'
      WHEN 'llm.call.finished' THEN CASE
        WHEN list_contains(CAST(payload -> '$.finish_reasons' AS VARCHAR[]), 'content_filter') THEN 'content_filter'
        WHEN list_contains(CAST(payload -> '$.finish_reasons' AS VARCHAR[]), 'refusal')
          OR (payload ->> '$.refusal') IS NOT NULL THEN 'refusal'
      END
      ELSE error_type
    END AS why,
    CASE kind
      WHEN 'llm.call.crashed' THEN 'the process that made the call ended without a word'
      ELSE coalesce(payload ->> '$.error_message', payload ->> '$.refusal')
    END AS message
  FROM events
  WHERE kind IN ('llm.call.failed', 'llm.call.crashed')
    OR (kind = 'llm.call.aborted' AND error_type <> 'interrupted')
    -- Text that must be there is looked for first: it is far faster than reading JSON.
    OR (kind = 'llm.call.finished' AND (contains(payload, '"refusal"') OR contains(payload, '"content_filter"')))
) AS ended
LEFT JOIN (SELECT * FROM events WHERE kind = 'llm.call.started') AS started USING (stream)
WHERE ended.why IS NOT NULL
