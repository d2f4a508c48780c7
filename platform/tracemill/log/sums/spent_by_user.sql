-- What calls cost by end user.
SELECT summed_by AS user_id, * EXCLUDE (summed_by)
FROM spent_by(user_id)
