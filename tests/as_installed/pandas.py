"""In the way of pandas, for the processes that tests start: no user of ours has to have it.

It is here for statsmodels alone, and pyarrow would import it in each of them: 0.4 s of a core.
"""

raise ImportError("the processes of tests run as an installation does: without pandas")
