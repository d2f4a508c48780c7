-- The rates of every model in the log, as the calls name it: a row for each span of time and length of prompt.
WITH models_asked AS (
  SELECT DISTINCT provider, request_model, response_model, service_tier
  FROM events
  WHERE kind IN ('llm.call.finished', 'llm.call.aborted')
)
SELECT
  provider,
  request_model,
  response_model,
  service_tier,  -- As the calls name it.
  priced_as,  -- The model of the price table.
  priced_tier,  -- The tier of the price table.
  effective_from,  -- The rates hold from this moment, UTC,
  effective_until,  -- until this one,
  from_second,  -- and in each day from this second
  until_second,  -- until this one,
  tier_start,  -- for prompts of more tokens than this
  tier_end,  -- and of no more than this.
  is_priced,  -- Whether anything has a price.
  has_input,  -- Whether it has a price.
  has_output,  -- Whether it has a price.
  has_cache_read,  -- 1 where it has a price of its own.
  has_cache_write,  -- 1 where it has a price of its own.
  has_cache_write_1h,  -- 1 where it has a price of its own.
  has_reasoning,  -- 1 where it has a price of its own.
  has_input_audio,  -- 1 where it has a price of its own.
  has_cache_read_audio,  -- 1 where it has a price of its own.
  has_output_audio,  -- 1 where it has a price of its own.
  input,  -- US dollars a token.
  output,  -- US dollars a token.
  cache_read,  -- What it adds to the price of `input`; so on below.
  cache_write,  -- What it adds to the price of `input`.
  cache_write_1h,  -- What it adds to that of `cache_write`.
  reasoning,  -- What it adds to the price of `output`.
  input_audio,  -- What it adds to the price of `input`.
  cache_read_audio,  -- What it adds to those of `cache_read` and `input_audio`.
  output_audio,  -- What it adds to the price of `output`.
  requests,  -- US dollars a call.
  web_searches,  -- US dollars apiece; so on below.
  social_searches,  -- US dollars apiece.
  storage_searches,  -- US dollars apiece.
  code_executions,  -- US dollars apiece.
  rerank_searches,  -- US dollars apiece.
  citation_tokens,  -- US dollars a token, of those that are billed beside the output.
  reasoning_tokens  -- US dollars a token, of those that are billed beside the output.
FROM rates_among('models_asked')
