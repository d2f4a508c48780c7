"""OpenAI's way to delete a model: one that was trained from here. What can be asked for is in `models.py`."""

import asyncio

from starlette.responses import Response as HttpResponse

from tracemill.errors import CallFailed
from tracemill.finetune import registry
from tracemill.finetune.job import state
from tracemill.finetune.providers.table import trainer
from tracemill.finetune.registry import Version
from tracemill.server.dialects.openai import OPENAI
from tracemill.server.events import answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import Trouble, invalid


async def delete(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Retire a version of a model, and delete it where it is served from."""

    def work() -> str:
        version = _found(gateway, asked)
        actor = asked.key.name if asked.key else None
        reason = "its owner deleted it"
        registry.retire(gateway.log, version.name, version.digest, reason=reason, actor=actor)
        known = trainer(version.provider, client=gateway.client, settings=gateway.settings)
        try:
            known.delete_model(version.model)
        except CallFailed as failed:
            if failed.error_type not in {"unsupported", "not_found"}:
                raise
            raise invalid(f"it is retired here, but {failed}", "model") from None
        return version.model

    name = await asyncio.to_thread(work)
    return answer({"id": name, "object": "model", "deleted": True})


def _found(gateway: Gateway, asked: Incoming) -> Version:
    """The version that a path names. Raises `Trouble`: none, or not trained by this key."""
    name, key = asked.path["model"], asked.key
    for version in registry.versions(gateway.log):
        if version.model == name and version.state != "retired":
            theirs = key is None or key.admin
            if theirs or (key and state(gateway.log, version.job_id).key_id == key.key_id):
                return version
            raise Trouble(403, "permission_denied", "another key trained this model", param="model")
    raise Trouble(
        404, "not_found", f"there is no trained model {name[:200]} to delete", param="model"
    )


ROUTES = (
    Route(
        "DELETE",
        "/v1/models/{model:path}",
        delete,
        OPENAI,
        "finetuning",
        "Delete a model that was trained from here.",
    ),
)
