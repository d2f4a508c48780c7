"""A small warehouse of our own text: records to splits, a collection, and a model in two versions.

The steps are those that the assets take, called directly, so that it is there in seconds; what they
leave lies where the assets leave it. The same on every machine, but for ids and times.
"""

from assets.sample_data.records import Sample, sample
from tracemill.log import EventLog
from tracemill.settings import Settings

__all__ = ["Sample", "sample", "write_sample_data"]


def write_sample_data(settings: Settings) -> None:
    """Fill a warehouse: raw files, everything that is made of them, and the events about it.

    Args:
        settings: of a warehouse without training data, `harvest_installed=False`.
    """
    from assets.sample_data import collection, corpus, models, raw

    settings.create()
    raw.write(settings, sample())
    with EventLog.open(settings) as log:
        corpus.build(settings, log)
        collection.build(settings, log)
        models.build(settings, log)
