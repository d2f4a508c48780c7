# /// script
# requires-python = ">=3.11"
# dependencies = ["langfuse==5.0.4"]
# ///
"""Langfuse's SDK, sending to a sink on this machine that accepts everything at once."""

import gzip
import os
from pathlib import Path

from peer import main


def prepare(folder: Path):
    from langfuse import Langfuse  # pyright: ignore[reportMissingImports]

    langfuse = Langfuse(
        public_key="pk-lf-benchmark",
        secret_key="sk-lf-benchmark",
        base_url=os.environ["SINK_URL"],
    )

    def log(call: dict) -> None:
        tokens = {"input": call["input_tokens"], "output": call["output_tokens"]}
        prompt = [{"role": "user", "content": call["prompt"]}]
        with langfuse.start_as_current_observation(
            name="chat", as_type="generation", model=call["model"], input=prompt
        ) as generation:
            generation.update(output=call["answer"], usage_details=tokens)

    return log, langfuse.flush


def count(folder: Path) -> int:
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # pyright: ignore[reportMissingImports]

    spans = 0
    for path in folder.glob("*.body"):
        body = path.read_bytes()
        body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        spans += sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)
    return spans


if __name__ == "__main__":
    main(prepare, count)
