"""Calls to models: one small interface, every call in the log, priced when it is made.

`client.generate` makes a call, `providers/` knows the models, `prices` the money, `tokens` and
`bm25` count and compare words offline, `passages` lays out a question with its sources.
"""
