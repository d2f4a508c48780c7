"""Where the warehouse is and what lies where in it: found once, by walking up from here.

`TRACEMILL_WAREHOUSE` moves it all. Every path in the project is a property of `Settings`, so that
no other module spells a folder's name.
"""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tracemill.errors import UsageError, WarehouseNotFound

README = """\
# The warehouse

Data, not code: only this page is kept in version control.

| folder | what | delete it? |
|---|---|---|
| `raw/` | files that you drop in: records to `raw/records/`, documents to `raw/documents/`, labelled questions to `raw/questions/`; `raw/dataset.yaml`; recipes of fine-tunes to `raw/models/`; rules of alerts to `raw/alerts.yaml`, names of models for the server to `raw/gateway.yaml`, terms of retention to `raw/retention.yaml` | no |
| `log/` | the event log: the only source of truth | no |
| `log.duckdb` | views over the sealed part of the log, for any DuckDB client | rebuilt |
| `corpus/` | records, what was dropped, splits | rebuilt |
| `indexes/` | documents, chunks, vectors, hnswlib indexes | rebuilt |
| `models/` | fine-tuned models and their jobs | trained again; a hosted job is paid for again |
| `jobs/` | requests and answers of jobs, and their queue | no, but for `queue.db` |
| `files/` | files that were handed to the server, and results of batches | no |
| `cache/` | embeddings by content, answers of models | rebuilt; answers are paid for again |
| `quarantine/` | what was refused, with file, line and reason | rebuilt |
| `reports/` | rendered notebooks, tables of calls and costs, alerts as they were told | rebuilt, but for `alerts.jsonl` |
| `backups/` | verified copies of the log | no |
| `dagster/` | the history of runs (DAGSTER_HOME) | rebuilt, without the history |

`tracemill build` rebuilds what can be rebuilt. `TRACEMILL_WAREHOUSE` puts it all somewhere else.
"""


class Settings(BaseSettings):
    """Where things are and how much is allowed; read from `TRACEMILL_*` and `Settings.find()`."""

    model_config = SettingsConfigDict(env_prefix="TRACEMILL_", frozen=True)

    warehouse: Path
    """The folder that holds all data; absolute."""
    fold_after_events: int = Field(default=20_000, ge=1)
    """An appender that sees this many unsealed events starts a fold in a process of its own."""
    llm_connections: int = Field(default=100, ge=1)
    """The most connections to one provider at a time."""
    llm_timeout_s: float = Field(default=600, gt=0)
    """How long a model may be silent before a call is given up."""
    llm_trace_context: bool = False
    """Send providers a `traceparent` with the trace and the call: for a gateway of your own."""
    prices: Path | None = None
    """A file of prices that goes before the shipped ones; its form is in `prices/override.py`."""
    harvest_installed: bool = True
    """False leaves out the documentation that is installed here: only `raw/` is read."""

    queue: str | None = None
    """`redis://...`: the queue of jobs, for several machines; None: a file in the warehouse."""
    callback_secret: SecretStr | None = None
    """Signs what is sent to callbacks of jobs: `whsec_` and base64, or 16 bytes of text or more."""
    callback_private: bool = False
    """Whether callbacks may go to private addresses, and to http://."""

    evals: Path | None = None
    """Where data sets for evaluations are; None: the folder `evals` beside the warehouse."""

    @classmethod
    def find(cls, start: Path | None = None) -> "Settings":
        """The settings for the nearest warehouse: the environment's, else the first one upward.

        Raises `WarehouseNotFound` when there is none.
        """
        import os

        named = os.environ.get("TRACEMILL_WAREHOUSE")
        if named is not None:
            if not named.strip():
                raise UsageError("TRACEMILL_WAREHOUSE is empty: unset it or name a folder")
            return cls(warehouse=Path(named).expanduser().absolute())
        here = (start or Path.cwd()).absolute()
        for folder in (here, *here.parents):
            if (folder / "warehouse" / "README.md").is_file():
                return cls(warehouse=folder / "warehouse")
        raise WarehouseNotFound(
            f"no warehouse/ in {here} or above it: run `tracemill init` where it should be, "
            "or set TRACEMILL_WAREHOUSE to its folder"
        )

    def create(self) -> "Settings":
        """Make the warehouse's folder and its README; what exists is left alone."""
        for folder in (self.raw_records, self.raw_documents):
            folder.mkdir(parents=True, exist_ok=True)
        readme = self.warehouse / "README.md"
        if not readme.exists():
            readme.write_text(README, encoding="utf-8")
        return self

    @property
    def raw_records(self) -> Path:
        return self.warehouse / "raw" / "records"

    @property
    def raw_dataset(self) -> Path:
        """The recipe of the data set; it may be missing."""
        return self.warehouse / "raw" / "dataset.yaml"

    @property
    def raw_documents(self) -> Path:
        return self.warehouse / "raw" / "documents"

    @property
    def log(self) -> Path:
        return self.warehouse / "log"

    @property
    def corpus(self) -> Path:
        return self.warehouse / "corpus"

    def kept(self, step: str) -> Path:
        """The folder with the records that a step of the corpus kept: a table for each origin."""
        return self.corpus / step

    def dropped(self, step: str) -> Path:
        """The folder with the records that a step dropped, each with its reason."""
        return self.corpus / "dropped" / step

    @property
    def quarantined_records(self) -> Path:
        """One table of all that was refused or dropped on the way to the splits."""
        return self.quarantine / "records.parquet"

    @property
    def indexes(self) -> Path:
        return self.warehouse / "indexes"

    def collection(self, name: str) -> Path:
        """The folder of a collection: its documents, chunks, vectors and versions."""
        return self.indexes / name

    def quarantined_documents(self, name: str) -> Path:
        """The files of a collection that could not be read, each with the reason."""
        return self.quarantine / "documents" / f"{name}.parquet"

    @property
    def raw_questions(self) -> Path:
        """Labelled questions: a JSONL file for each collection."""
        return self.warehouse / "raw" / "questions"

    @property
    def raw_models(self) -> Path:
        """Recipes of fine-tunes: a YAML file for each model."""
        return self.warehouse / "raw" / "models"

    @property
    def splits(self) -> Path:
        """The versions of the data set, and which one is in force."""
        return self.corpus / "splits"

    @property
    def models(self) -> Path:
        """Fine-tuned models: a folder for each version, and `jobs/` with a folder for each job."""
        return self.warehouse / "models"

    @property
    def jobs(self) -> Path:
        """A folder for each job, with what was asked and answered; and the queue."""
        return self.warehouse / "jobs"

    @property
    def files(self) -> Path:
        """Files that were handed to the server, each by its id."""
        return self.warehouse / "files"

    @property
    def evaluation_sets(self) -> Path:
        """JSONL files with cases."""
        return self.evals or self.warehouse.parent / "evals"

    @property
    def raw_alerts(self) -> Path:
        """The rules of alerts; it may be missing."""
        return self.warehouse / "raw" / "alerts.yaml"

    @property
    def raw_retention(self) -> Path:
        """How long the log keeps what; it may be missing: then for ever."""
        return self.warehouse / "raw" / "retention.yaml"

    @property
    def raw_gateway(self) -> Path:
        """What the server calls models by names of your own; it may be missing."""
        return self.warehouse / "raw" / "gateway.yaml"

    @property
    def backups(self) -> Path:
        """Copies of the log: a folder for each."""
        return self.warehouse / "backups"

    @property
    def daily(self) -> Path:
        """Tables of the log by day: a folder for each table, a file for each day."""
        return self.reports / "daily"

    @property
    def cache(self) -> Path:
        return self.warehouse / "cache"

    @property
    def quarantine(self) -> Path:
        return self.warehouse / "quarantine"

    @property
    def reports(self) -> Path:
        return self.warehouse / "reports"

    @property
    def dagster_home(self) -> Path:
        return self.warehouse / "dagster"
