"""The handbook of the sample as a collection that answers, evaluated by labelled questions."""

from typing import TYPE_CHECKING

from assets.sample_data.raw import COLLECTION
from tracemill.corpus.tables import write_table
from tracemill.events import IndexBuilt
from tracemill.retrieval import folder
from tracemill.retrieval.chunks import chunk
from tracemill.retrieval.collection import create
from tracemill.retrieval.evaluate import Evaluation, evaluate
from tracemill.retrieval.frames import searchable
from tracemill.retrieval.questions import labelled
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.log import EventLog

ACTOR = "sample"


def build(settings: Settings, log: "EventLog") -> Evaluation:
    """Read, cut, embed, index, ask."""
    import polars as pl

    from tracemill.retrieval import embed

    home = settings.collection(COLLECTION)
    folder.update(
        settings.raw_documents / COLLECTION,
        source=f"documents/{COLLECTION}",
        documents=home / "documents.parquet",
        refused=settings.quarantined_documents(COLLECTION),
        workers=1,
    )
    documents = pl.read_parquet(home / "documents.parquet")
    cut = chunk(documents, tokens=96, overlap=0)
    write_table(cut, home / "chunks.parquet")
    vectors = embed.compute(searchable(cut).to_list())
    made = create(settings.indexes, COLLECTION, log=log).replace(cut, vectors)
    log.append(
        IndexBuilt(
            name=COLLECTION,
            digest=made.digest,
            chunks=len(made),
            dimensions=made.dimensions,
            embedding_model=made.model,
            recall_at_10=made.recall_at_10,
            documents=documents.height,
            actor=ACTOR,
        )
    )
    read = labelled(settings, COLLECTION)
    assert read is not None
    return evaluate(
        made, read.frame, settings=settings, log=log, answer_model="local/extract", actor=ACTOR
    )
