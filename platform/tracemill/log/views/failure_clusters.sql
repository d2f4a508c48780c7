-- Failures that differ only in numbers, ids, quoted values and urls, together: how often, where, since when.
WITH
  failed AS (
    SELECT
      stream,
      position,
      occurred_at,
      provider,
      request_model,
      user_id,
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
  ),
  -- To find what a message has in common takes long, so each message is looked at once.
  told AS (
    SELECT message, pattern_of(message) AS pattern FROM (SELECT DISTINCT message FROM failed)
  )
SELECT
  why || coalesce(': ' || pattern, '') AS signature,  -- The class of error and the message, with placeholders for what differs from time to time.
  why AS error_type,  -- The provider's class of error; `crashed`, `refusal` or `content_filter`.
  count(*) AS calls,  -- How many.
  count(DISTINCT user_id) AS users,  -- How many users they were for.
  list_sort(list(DISTINCT provider || '/' || request_model)) AS models,  -- The models that were asked.
  min(occurred_at) AS first_at,  -- When the first of them ended.
  max(occurred_at) AS last_at,  -- When the last of them ended.
  substr(arg_max(stream, position), 6) AS example_call_id,  -- The last of them.
  arg_max(failed.message, position) AS example  -- What was said of it.
FROM failed
LEFT JOIN told ON told.message IS NOT DISTINCT FROM failed.message
GROUP BY ALL
