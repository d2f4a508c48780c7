"""`tracemill serve`: one address for every model."""

import logging
import sys
from typing import Annotated

import typer

from tracemill.cli.options import Warehouse, settings_for
from tracemill.cli.output import plain


def serve(
    host: Annotated[
        str, typer.Option(help="The address to serve at; others than this machine's need keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    workers: Annotated[
        int,
        typer.Option(min=0, max=64, help="Processes for jobs while there are any; 0: others work."),
    ] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line for each request.")] = False,
    warehouse: Warehouse = None,
) -> None:
    """Serve every model at one address, in the language of each provider's SDK.

    Point an SDK at it and nothing else changes: calls are logged, priced, kept within budgets,
    answered from the cache and by other models where raw/gateway.yaml says so.

    Examples:

      tracemill serve
      OPENAI_BASE_URL=http://127.0.0.1:8765/v1 python your_program.py
      ANTHROPIC_BASE_URL=http://127.0.0.1:8765 python your_program.py

      tracemill keys create search-team
      tracemill serve --host 0.0.0.0
    """
    from tracemill.server.serve import serve as run
    from tracemill.telemetry.json_log import Lines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    logger = logging.getLogger("tracemill.server")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)

    def ready(address: str, has_keys: bool) -> None:
        print(plain(f"serving at {address}: /docs has every route, / shows the log"))
        if not has_keys:
            print(
                "there is no key yet: whoever is on this machine may use it, others may not "
                "(`tracemill keys create NAME` makes one)"
            )
        sys.stdout.flush()

    run(settings_for(warehouse), host, port, workers=workers, ready=ready)
