# /// script
# requires-python = ">=3.11"
# dependencies = ["mlflow==3.17.2"]
# ///
"""MLflow tracing into a local SQLite file; MLFLOW_ENABLE_ASYNC_TRACE_LOGGING=false makes it wait."""

import logging
import os
import sqlite3
import warnings
from pathlib import Path

from peer import main


def prepare(folder: Path):
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    warnings.filterwarnings("ignore")
    import mlflow  # pyright: ignore[reportMissingImports]

    logging.getLogger("alembic").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_experiment("benchmark")

    def log(call: dict) -> None:
        with mlflow.start_span(name="chat", span_type="LLM") as span:
            span.set_inputs({"messages": [{"role": "user", "content": call["prompt"]}]})
            span.set_outputs({"content": call["answer"]})
            tokens = {name: call[name] for name in ("input_tokens", "output_tokens")}
            usage = tokens | {"total_tokens": sum(tokens.values())}
            span.set_attributes({"model": call["model"], "mlflow.chat.tokenUsage": usage})

    return log, mlflow.flush_trace_async_logging


def count(folder: Path) -> int:
    with sqlite3.connect(folder / "mlflow.db") as connection:
        return connection.execute("SELECT count(*) FROM spans").fetchone()[0]


if __name__ == "__main__":
    main(prepare, count)
