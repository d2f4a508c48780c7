"""Raw records, origin by origin: repaired, judged by the rules of their source, without personal data.

An origin whose rows and recipe have not changed is left as it is.
"""

import hashlib
import secrets
from collections import Counter
from typing import TYPE_CHECKING

import dagster as dg

from assets import flow, sources
from assets.warehouse import ORIGINS, OWNERS, Warehouse, asset_by, code_of
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.recipe import Source
    from tracemill.corpus.records import Judged

GROUP = "corpus"


@asset_by(
    ORIGINS,
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "numba", "parquet"},
    code_version=code_of(
        __name__,
        *(f"tracemill.corpus.{name}" for name in ("records", "clean", "rules", "quality")),
        *(f"tracemill.corpus.{name}" for name in ("languages", "refusals", "kernels")),
    ),
    deps=[sources.raw_records],
)
def clean_records(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Records with repaired texts; what broke a rule of its source lies beside, with the reason."""
    from tracemill.corpus.clean import clean

    def judge(batch: "pl.DataFrame", recipe: "Source", facts: Counter[str]) -> "Judged":
        return clean(batch, recipe)

    asked = {"rules", "languages", "min_rating"}
    return flow.sift_each(context, warehouse, sources.raw_records.key, asked, judge)


@asset_by(
    ORIGINS,
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version=code_of(
        __name__,
        *(f"tracemill.corpus.{name}" for name in ("records", "personal", "stand_ins", "names")),
        "tracemill.pii",
    ),
    deps=[clean_records],
)
def protected_records(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> dg.MaterializeResult:
    """Records without e-mail addresses, phone numbers, accounts, cards, addresses and keys.

    As the recipe of the source asks: placeholders, stable stand-ins, or no such record at all.
    """
    from tracemill.corpus.personal import protect
    from tracemill.corpus.records import Judged

    salt = _salt(warehouse.settings)

    def judge(batch: "pl.DataFrame", recipe: "Source", facts: Counter[str]) -> Judged:
        kept, dropped, counts = protect(batch, recipe.pii, names=recipe.names, salt=salt)
        found = counts.select("kind", "found").iter_rows()
        facts.update({f"found_{kind}": number for kind, number in found})
        return Judged(kept, dropped)

    return flow.sift_each(
        context,
        warehouse,
        clean_records.key,
        {"pii", "names"},
        judge,
        also={"stand-ins": stand_ins(warehouse.settings)},
    )


@dg.asset_check(asset=clean_records, blocking=True, name="no_record_lost")
def none_lost_in_cleaning(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every raw record was kept, or dropped with a reason."""
    return flow.accounted(warehouse.settings, clean_records.key, sources.raw_records.key)


@dg.asset_check(asset=protected_records, blocking=True, name="no_record_lost")
def none_lost_in_protecting(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every clean record was kept, or dropped for what it tells of people."""
    return flow.accounted(warehouse.settings, protected_records.key, clean_records.key)


def stand_ins(settings: Settings) -> str:
    """A digest of what pseudonyms are keyed with: another key makes other stand-ins."""
    return hashlib.sha256(_salt(settings).encode()).hexdigest()[:16]


def _salt(settings: Settings) -> str:
    """What pseudonyms are keyed with: drawn once for a warehouse, readable by its owner alone."""
    file = settings.raw_records.parent / ".pseudonyms"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16), encoding="ascii")
    return file.read_text(encoding="ascii")
