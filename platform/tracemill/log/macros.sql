-- Functions that views share, and that questions may use too.

-- The text of a message's `content`: a string, or the text parts among its parts.
CREATE MACRO text_of(content) AS CASE json_type(content)
  WHEN 'VARCHAR' THEN content ->> '$'
  WHEN 'ARRAY' THEN array_to_string(
    [part.content FOR part IN from_json(content, '[{"type": "VARCHAR", "content": "VARCHAR"}]') IF part.type = 'text'], '')
END;

-- The text of the last user message.
CREATE MACRO prompt_of(messages) AS text_of(
  ([m.content FOR m IN from_json(messages, '[{"role": "VARCHAR", "content": "JSON"}]') IF m.role = 'user'])[-1]);

-- A message without what differs from time to time: urls, quoted values, ids, durations, numbers.
CREATE MACRO pattern_of(message) AS left(trim(
  regexp_replace(
  regexp_replace(
  regexp_replace(
  regexp_replace(
  regexp_replace(
  regexp_replace(
  regexp_replace(
    message,
    'https?://[^\s"''<>]+', '<url>', 'g'),
    '"[^"]*"|`[^`]*`|\B''[^'']*''\B', '<value>', 'g'),
    '\b([A-Za-z]+_)?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b[0-9a-fA-F]{16,}\b', '<id>', 'g'),
    '\b([0-9]+(\.[0-9]+)?(ms|[smhd]))+\b', '<n>s', 'g'),
    '\b[A-Za-z]+[_-][A-Za-z0-9_-]*[0-9][A-Za-z0-9_-]*|\b[A-Za-z]*[0-9]+[A-Za-z]+[0-9]+[A-Za-z0-9]*\b', '<id>', 'g'),
    '[0-9]+([.,:/-][0-9]+)*', '<n>', 'g'),
    '\s+', ' ', 'g')), 300);

-- The words of a text in lower case, one space between them, numbers alike, scripts without spaces cut into characters.
CREATE MACRO words_of(content) AS trim(regexp_replace(regexp_replace(regexp_replace(
  lower(content),
  '\pN+', '0', 'g'),
  '(\p{Han}|\p{Hiragana}|\p{Katakana}|\p{Thai}|\p{Lao}|\p{Khmer}|\p{Myanmar})', ' \1 ', 'g'),
  '[^\pL\pN\pM]+', ' ', 'g'));
