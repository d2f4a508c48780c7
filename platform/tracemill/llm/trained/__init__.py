"""Models that were trained here: loaded once a process, asked for log probabilities or for text."""
