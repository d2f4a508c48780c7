"""Put each case to a model, or to a function, and keep what came back: one row for each answer.

An answer of a model is an ordinary call, tagged with the evaluation and the case. A call that fails
is an answer that is missing; where no call can succeed, the whole is given up at once.
"""

import dataclasses
import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tracemill.errors import CallFailed, UsageError
from tracemill.llm import prompts
from tracemill.messages import Request, Response
from tracemill.quality.cases import Cases, calls_text, messages_of

if TYPE_CHECKING:
    import polars as pl

    from tracemill.llm.client import Client
    from tracemill.llm.prompts import Prompt
    from tracemill.log import EventLog

HOPELESS = frozenset(
    {"missing_key", "authentication", "permission_denied", "billing", "unknown_provider"}
    | {"unknown_model", "damaged_model", "not_found"}
)
"""Error types that the next case would meet too."""
CONCURRENT = 8
"""How many calls are under way at a time, to models that run elsewhere."""

T = TypeVar("T")
Case = Mapping[str, Any]
"""A row of the cases."""


class Answer(NamedTuple):
    """What came of one case, once."""

    answer: str | None
    """None where there was none."""
    error_type: str | None = None
    call_id: str | None = None
    latency_ms: float | None = None
    cost_usd: Decimal | None = None
    """None where it is not known; of a function that told nothing, 0."""


Ask = Callable[[Case, int], Answer]
"""A case, and which of its samples it is."""


def of_model(
    client: "Client",
    model: str,
    *,
    evaluation_id: str,
    prompt: "Prompt | None" = None,
    asked: Mapping[str, Any] | None = None,
    actor: str | None = None,
) -> Ask:
    """Ask by calling a model; `asked` are further fields of its requests.

    Whether an answer keeps to `response_schema` is measured here and not repaired.
    """
    guard = client.guard and dataclasses.replace(client.guard, check_schema=False)

    def ask(case: Case, sample: int) -> Answer:
        tags = {"evaluation_id": evaluation_id, "case_id": case["id"], "sample": str(sample)}
        more = dict(asked or {})
        more["metadata"] = {**more.get("metadata", {}), **tags}
        request = _request(case, model, prompt, more)
        try:
            said = client.generate(request, actor=actor, correlation_id=evaluation_id, guard=guard)
        except CallFailed as error:
            if error.error_type in HOPELESS:
                raise
            return Answer(None, error.error_type, error.call_id)
        return _of_response(said)

    return ask


def of_function(function: Callable[[Any], Any]) -> Ask:
    """Ask by calling a function with the input: text, a list of messages as dicts, or a dict.

    It returns text, a `Response`, or whatever else JSON can tell; None is no answer, and an
    exception is a failure.
    """
    if inspect.iscoroutinefunction(function):
        raise UsageError(f"{label(function)} is a coroutine: wrap it in a function that runs it")

    def ask(case: Case, _: int) -> Answer:
        given = case["input"] if case["form"] == "text" else json.loads(case["input"])
        begun = time.perf_counter()
        try:
            said = function(given)
        except CallFailed as error:
            return Answer(None, error.error_type, error.call_id)
        except Exception as error:  # noqa: BLE001 (whatever users' code raises is a wrong answer)
            return Answer(None, type(error).__name__)
        latency_ms = (time.perf_counter() - begun) * 1000
        if isinstance(said, Response):
            return _of_response(said)
        if said is None:
            return Answer(None, "no_answer", None, latency_ms, Decimal(0))
        text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, default=str)
        return Answer(text, None, None, latency_ms, Decimal(0))

    return ask


def registered(log: "EventLog", named: str) -> "Prompt":
    """The prompt of a name, `name@version` or `name@label`; without one, the label production.

    Raises `UsageError` where there is none.
    """
    name, _, which = named.partition("@")
    return prompts.get(log, name, which or "production")


def label(model: str | Callable[[Any], Any]) -> str:
    """How the log calls who answers."""
    if isinstance(model, str):
        return model
    return str(getattr(model, "__name__", type(model).__name__))[:200]


def ask_all(
    cases: Cases,
    ask: Ask,
    *,
    samples: int = 1,
    concurrency: int = 1,
    progress: Callable[[int], None] | None = None,
) -> "pl.DataFrame":
    """An answer for each case and sample: columns of the cases, sample, and those of `Answer`."""
    import polars as pl

    rows = [
        (case, sample) for case in cases.frame.iter_rows(named=True) for sample in range(samples)
    ]
    tasks: list[Callable[[], Answer]] = [lambda one=one: ask(*one) for one in rows]
    answers = _answers(gathered(tasks, concurrency, progress))
    order = [place for place in range(len(cases)) for _ in range(samples)]
    numbers = pl.Series("sample", list(range(samples)) * len(cases), dtype=pl.Int64)
    asked = cases.frame[order].with_columns(numbers)
    return pl.concat([asked, answers], how="horizontal")


def unasked(cases: Cases) -> "pl.DataFrame":
    """As `ask_all`, for figures that need no answer."""
    import polars as pl

    none = _answers([Answer(None, cost_usd=Decimal(0))] * len(cases))
    numbered = cases.frame.with_columns(pl.lit(0, pl.Int64).alias("sample"))
    return pl.concat([numbered, none], how="horizontal")


def _answers(found: list[Answer]) -> "pl.DataFrame":
    import polars as pl

    kinds = [pl.String, pl.String, pl.String, pl.Float64, pl.Decimal(38, 12)]
    schema: Any = dict(zip(Answer._fields, kinds, strict=True))
    return pl.DataFrame(found, schema=schema, orient="row")


def gathered(
    tasks: Sequence[Callable[[], T]],
    concurrency: int,
    progress: Callable[[int], None] | None = None,
) -> list[T]:
    """What the tasks return, in their order; at most so many are under way at a time.

    What one raises ends it all: those under way end by themselves, and nothing waits for them.
    """
    found: dict[int, T] = {}
    if concurrency == 1:
        for place, task in enumerate(tasks):
            found[place] = task()
            if progress:
                progress(1)
        return list(found.values())
    left = iter(enumerate(tasks))
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="evaluation")
    running: dict[Future[T], int] = {}
    try:
        while len(found) < len(tasks):
            for place, task in islice(left, concurrency - len(running)):
                running[pool.submit(task)] = place
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                found[running.pop(future)] = future.result()
                if progress:
                    progress(1)
    finally:
        pool.shutdown(wait=not running, cancel_futures=True)
    return [found[place] for place in range(len(tasks))]


def _request(case: Case, model: str, prompt: "Prompt | None", asked: Mapping[str, Any]) -> Request:
    if prompt is None:
        return Request(model=model, messages=messages_of(case), **asked)
    return prompts.render(prompt, _values(case, prompt), model=model, **asked)


def _values(case: Case, prompt: "Prompt") -> dict[str, Any]:
    """What a prompt's variables are given: the object of values, or the words for the only one."""
    if case["form"] == "values":
        return json.loads(case["input"])
    turns = [turn for turn in messages_of(case) if turn.role != "system"]
    if len(prompt.variables) != 1 or len(turns) != 1:
        raise UsageError(
            f"prompt {prompt.name} has {len(prompt.variables)} variables and case {case['id']} "
            f"{len(turns)} turns: one turn goes to one variable, for more let input be an object"
        )
    return {next(iter(prompt.variables)): turns[0].text}


def _of_response(said: Response) -> Answer:
    made = calls_text([(call.name, call.arguments) for call in said.tool_calls])
    text = said.text or made
    refused = not text and ("refusal" if said.refusal else "no_answer")
    return Answer(text or None, refused or None, said.call_id, said.latency_ms, said.cost_usd)
