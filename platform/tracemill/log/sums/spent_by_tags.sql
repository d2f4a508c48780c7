-- What calls cost by set of tags.
SELECT summed_by AS metadata, * EXCLUDE (summed_by)
FROM spent_by(metadata)
