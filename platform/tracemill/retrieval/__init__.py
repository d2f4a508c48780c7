"""Documents to an index, questions to answers that cite: `documents`, `chunks`, `embed`, `index`,
`answer`, in this order; each takes what the one before it gives.
"""
