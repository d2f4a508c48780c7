-- What calls cost by key.
SELECT summed_by AS key_id, * EXCLUDE (summed_by)
FROM spent_by(key_id)
