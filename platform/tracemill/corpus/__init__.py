"""Records from their sources to deduplicated training splits; documents from their sources.

Pure steps over Polars frames, in this order; this package knows neither the log nor the models:

    installed, read    where records and documents come from; what is refused, and why
    clean              one repair, one reason per rule
    dedup              exact and near duplicates, each removal with its evidence
    split, write       train, validation and test by duplicate group; versions by digest
    records            the columns that all of them agree on
"""
