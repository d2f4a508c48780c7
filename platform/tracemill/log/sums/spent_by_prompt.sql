-- What calls cost by the version of their prompt.
SELECT summed_by.*, * EXCLUDE (summed_by)
FROM spent_by({prompt_name: prompt_name, prompt_version: prompt_version})
