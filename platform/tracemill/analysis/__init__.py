"""Questions that people ask of a warehouse, from a notebook: costs, failures, replays, lineage.

Everything is read from the log and from what was built of it; nothing is kept here.
"""
