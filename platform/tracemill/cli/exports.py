"""`tracemill export otlp`: the log's calls, to a collector of OpenTelemetry."""

import os
import sys
import threading
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

import typer

from tracemill.cli.options import Json, Warehouse, open_log, settings_for
from tracemill.cli.output import plain, print_json, progress
from tracemill.errors import UsageError

if TYPE_CHECKING:
    from tracemill.telemetry.export import Exported

app = typer.Typer(no_args_is_help=True, help="Send what the log knows to other tools.")


@app.callback()
def root() -> None: ...


@app.command()
def otlp(
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Address of the collector, as http://localhost:4318; "
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT and OTEL_EXPORTER_OTLP_ENDPOINT name it too."
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            help="Sent with every request, as name=value; so is OTEL_EXPORTER_OTLP_HEADERS, which "
            "no list of processes shows."
        ),
    ] = None,
    content: Annotated[
        bool, typer.Option("--content", help="Send messages and answers too, not only figures.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what comes, until ctrl-C.")
    ] = False,
    every_s: Annotated[
        float, typer.Option("--every", min=0.1, help="With --follow: seconds between looks.")
    ] = 2.0,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Send calls to a collector of OpenTelemetry, each as a span; what was sent is not sent again.

    How far it is, is in cache/otlp/, by endpoint: delete that and all is sent anew.

    Examples:

      tracemill export otlp --endpoint http://localhost:4318
      OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20abc tracemill export otlp --endpoint https://otel.example.org/v1/traces --follow
    """
    from tracemill.telemetry.export import Starts, export

    address = endpoint or _from_environment()
    headers = _headers(header or [])
    begun: Starts = Starts()
    with open_log(warehouse) as log, progress("spans") as advance:
        state = settings_for(warehouse).cache / "otlp"

        def once() -> "Exported":
            return export(
                log,
                address,
                headers,
                state=state,
                content=content,
                service=os.environ.get("OTEL_SERVICE_NAME") or "tracemill",
                progress=advance,
                begun=begun,
            )

        done = once()
        _print(done, as_json=as_json)
        quiet = threading.Event()
        seen = log.position()
        while follow and not quiet.wait(every_s):
            if (now := log.position()) != seen:
                seen = now
                if (more := once()).spans:
                    _print(more, as_json=as_json)


def _print(done: "Exported", *, as_json: bool) -> None:
    if as_json:
        print_json(done._asdict())
    else:
        print(plain(f"{done.spans:,} spans sent, up to position {done.position:,}"))
        if done.rejected:
            print(plain(f"the collector refused {done.rejected:,}: {done.why}"), file=sys.stderr)
    sys.stdout.flush()


def _from_environment() -> str:
    """As OpenTelemetry's SDKs find it."""
    if address := os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return address
    if base := os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return f"{base.rstrip('/')}/v1/traces"
    raise UsageError("say where to: --endpoint http://localhost:4318")


def _headers(given: list[str]) -> dict[str, str]:
    named = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or os.environ.get(
        "OTEL_EXPORTER_OTLP_HEADERS", ""
    )
    pairs = [
        *((item, True) for item in named.split(",") if item.strip()),
        *((i, False) for i in given),
    ]
    made: dict[str, str] = {}
    for item, quoted in pairs:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise UsageError("a header is written as name=value")
        made[name.strip().lower()] = unquote(value.strip()) if quoted else value.strip()
    return made
