"""Trainers by their names in recipes.

`local` and `subprocess` train here, in a folder; the others through the API of a provider.
"""

from importlib import import_module
from typing import TYPE_CHECKING, cast

from tracemill.errors import UsageError
from tracemill.finetune.providers import FineTuneProvider

if TYPE_CHECKING:
    from tracemill.finetune.providers.hosted import Wires
    from tracemill.llm.client import Client
    from tracemill.settings import Settings

HOSTED = {"openai": "openai", "azure": "openai", "together": "together", "fireworks": "fireworks"}
"""Trainers with an API, and the module in this folder that speaks its language."""
HERE = ("local", "subprocess")
"""Trainers on this machine: they cost nothing but time, and are asked often."""


def trainer(
    name: str, *, client: "Client | None", settings: "Settings", command: tuple[str, ...] = ()
) -> FineTuneProvider:
    """The trainer of this name.

    Args:
        client: who sends the requests; only trainers with an API need one.
        command: the program of `subprocess`.

    Raises `UsageError` for a name that is none, and where a client is missing.
    """
    if name in HERE:
        from tracemill.finetune.providers.folder import InFolder

        return InFolder(settings, command)
    if name not in HOSTED:
        known = ", ".join((*HERE, *HOSTED))
        raise UsageError(f"there is no trainer {name!r}: the trainers are {known}")
    if client is None:
        raise UsageError(f"{name} trains through its API: open a client for it")
    from tracemill.finetune.providers.hosted import Hosted

    wires = import_module(f"tracemill.finetune.providers.{HOSTED[name]}")
    return Hosted(client, cast("Wires", wires), name)
