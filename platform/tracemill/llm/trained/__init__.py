"""Models that were trained here: loaded once a process, asked for a label or for text.

`ft:local:<name>:<version>` is one of them, `ft:local:<name>` the one that is in production.
"""

PREFIX = "ft:local:"


def is_trained(model: str) -> bool:
    """Whether a name for `Request.model` is that of a model which was trained here."""
    return model.startswith(PREFIX)
