-- What calls cost by the day of their end, UTC, and model.
SELECT summed_by.*, * EXCLUDE (summed_by)
FROM spent_by({day: CAST(occurred_at AS DATE), provider: provider, request_model: request_model})
