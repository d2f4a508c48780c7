-- The calls that ended without an answer, and why.
SELECT call_id, ended_at, provider, request_model, error_type, error_message, latency_ms, prompt
FROM calls
WHERE status = 'failed'
