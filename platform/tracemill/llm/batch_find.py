"""Looking for a remote batch that the log missed, so that a crash never makes a second one.

Where a provider keeps our id with the batch, that is a look at its list. Anthropic keeps none: there
a batch is ours if its results are of our calls, so that one that still runs cannot be told from
another of as many calls.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tracemill.errors import CallFailed
from tracemill.llm import batch_results, providers
from tracemill.llm.batch_results import read_json
from tracemill.llm.batch_state import BatchState
from tracemill.llm.providers.batch import Page, Progress, batch_adapter

if TYPE_CHECKING:
    from tracemill.llm.client import Client

_CLOCKS_DIFFER_BY = timedelta(minutes=10)
_MANY_PAGES = 200
_CLAIMED = """
SELECT payload ->> '$.remote_id' AS remote_id FROM events WHERE kind = 'llm.batch.progressed'
"""


def found(client: "Client", known: BatchState) -> Progress | None:
    """The remote batch of this id; None where the provider has none.

    Raises `CallFailed`: `conflict` where only the results will tell, and it has not ended yet.
    """
    batches = batch_adapter(known.prefix, providers.find(known.prefix))
    since = known.submitted_at - _CLOCKS_DIFFER_BY
    cursor: str | None = None
    alike: list[Progress] = []
    for _ in range(_MANY_PAGES):
        answer = client.exchange(known.prefix, batches.listing(cursor))
        page = batches.read_listing(read_json(answer.body))
        for batch in page.batches:
            if batch.batch_id == known.batch_id:
                return batch
            if batch.created_at is None or batch.created_at >= since:
                alike.append(batch)
        cursor = page.after
        if cursor is None or _all_before(page, since):
            break
    return None if batches.KEEPS_OUR_ID else _recognised(client, known, alike)


def _recognised(client: "Client", known: BatchState, recent: Sequence[Progress]) -> Progress | None:
    """The batch with our calls in it, which only the results tell."""
    claimed = set(client.log.arrow(_CLAIMED).column("remote_id").to_pylist())
    unsure: list[str] = []
    for batch in recent:
        if batch.remote_id in claimed or sum(batch.counts.values()) != len(known.calls):
            continue
        if batch.state != "ended":
            unsure.append(batch.remote_id)
        elif batch_results.has_calls_of(client, known, batch):
            return batch
    if unsure:
        raise CallFailed(
            "conflict",
            f"{known.prefix} runs {', '.join(unsure[:3])}, of as many calls as batch "
            f"{known.batch_id} and as recent, and tells which calls those are only at the end: "
            f"`tracemill batches wait {known.batch_id}` finds out",
            retry=True,
        )
    return None


def _all_before(page: Page, since: datetime) -> bool:
    return all(b.created_at is not None and b.created_at < since for b in page.batches)
