"""The fixture `llm`: ask a model from a test, record what it answers, or replay it."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.errors import CallFailed, UsageError
from tracemill.events import new_id
from tracemill.llm import prompts
from tracemill.llm.cache import key as key_of
from tracemill.llm.options import Options
from tracemill.messages import Message, Request, Response
from tracemill.pytest_plugin import recorded

if TYPE_CHECKING:
    from tracemill.llm.client import Client
    from tracemill.pytest_plugin.recorded import Recordings

Prompt = str | Sequence[Message | Mapping[str, Any]] | Mapping[str, Any] | Request


class Made(NamedTuple):
    """A call that a test made."""

    call_id: str | None
    model: str
    latency_ms: float
    cost_usd: Decimal | None
    failed: bool


class Llm:
    """Models, as a test asks them. It may stand where code calls `generate` of a client."""

    def __init__(
        self,
        client: "Client",
        *,
        test: str,
        model: str,
        prompt: str | None,
        recording: str | None,
        recordings: "Recordings | None",
    ) -> None:
        """`recording` names the recording that is made, `recordings` are those that are replayed."""
        self.client = client
        self.model = model
        """Who answers where a call names no model."""
        self.calls: list[Made] = []
        self.evaluation_id = new_id()
        self.prompt = prompts.get(client.log, *prompt.split("@", 1)) if prompt else None
        self.replays = recordings is not None
        self._test, self._recording, self._recordings = test, recording, recordings
        self._asked: Counter[str] = Counter()

    @property
    def cost_usd(self) -> float | None:
        """Of all calls that were answered; None where a price is not known."""
        costs = [made.cost_usd for made in self.calls if not made.failed]
        known = [cost for cost in costs if cost is not None]
        return None if len(known) < len(costs) else float(sum(known, Decimal(0)))

    def generate(self, asked: Prompt, *, model: str | None = None, **more: Any) -> Response:
        """Ask, and return the answer; every call of a test is in the log.

        Args:
            asked: a question; messages; values for the mark's prompt; or a whole `Request`.
            model: as `provider/model`; None: the request's, the mark's, or --llm-model's.
            more: fields of `Request`, such as `temperature=0`, and options of `Client.generate`.

        Raises `CallFailed`; with --llm-replay `UsageError` for what was not recorded.
        """
        request, options = self._request(asked, model, more)
        begun = time.perf_counter()
        try:
            if (response := self._replayed(request)) is None:
                response = self.client.generate(self._labelled(request), **options)
        except CallFailed as error:
            self._failed(request, begun, error)
            raise
        return self._answered(request, response)

    async def agenerate(self, asked: Prompt, *, model: str | None = None, **more: Any) -> Response:
        """As `generate`."""
        request, options = self._request(asked, model, more)
        begun = time.perf_counter()
        try:
            if (response := self._replayed(request)) is None:
                response = await self.client.agenerate(self._labelled(request), **options)
        except CallFailed as error:
            self._failed(request, begun, error)
            raise
        return self._answered(request, response)

    def _request(
        self, asked: Prompt, model: str | None, more: Mapping[str, Any]
    ) -> tuple[Request, Options]:
        options: Any = {k: v for k, v in more.items() if k in Options.__annotations__}
        options = {"correlation_id": self.evaluation_id} | options
        fields: dict[str, Any] = {k: v for k, v in more.items() if k not in options}
        name = model or self.model
        if isinstance(asked, Request):
            fields |= {"model": model} if model else {}
            told = {each: getattr(asked, each) for each in asked.model_fields_set}
            return (Request(**told | fields) if fields else asked), options
        if isinstance(asked, str):
            return Request.of(asked, model=name, **fields), options
        if isinstance(asked, Mapping):
            if self.prompt is None:
                raise UsageError(
                    "values need a prompt that takes them: @pytest.mark.llm(prompt='name')"
                )
            return prompts.render(self.prompt, asked, model=name, **fields), options
        fields |= {"model": name, "messages": tuple(asked)}
        return Request(**fields), options

    def _replayed(self, request: Request) -> Response | None:
        if self._recordings is None:
            return None
        key = key_of(request)
        before = self._asked[key]
        self._asked[key] += 1
        found = self._recordings.answer(key, self._test, before)
        if found is None:
            said = next((m.text for m in reversed(request.messages) if m.role == "user"), "")
            raise UsageError(
                f"no answer of {request.model} to {said[:60]!r} is recorded in "
                f"{self.client.log.folder}: {recorded.mend(self._test)}"
            )
        return found

    def _labelled(self, request: Request) -> Request:
        """With what the log shall know of it; none of it changes the answer."""
        labels = {recorded.TEST: self._test}
        if self._recording:
            labels[recorded.KEY] = key_of(request)
            labels[recorded.RECORDING] = self._recording
            labels[recorded.ASK] = new_id()
        return request.model_copy(update={"metadata": {**request.metadata, **labels}})

    def _answered(self, request: Request, response: Response) -> Response:
        taken = response.call_id, request.model, response.latency_ms, response.cost_usd, False
        self.calls.append(Made(*taken))
        return response

    def _failed(self, request: Request, begun: float, error: CallFailed) -> None:
        latency_ms = (time.perf_counter() - begun) * 1000
        self.calls.append(Made(error.call_id, request.model, latency_ms, None, True))
