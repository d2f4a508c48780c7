"""All operations of an OpenAPI document, checked by schemathesis; what it finds, as a `Report`."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.errors import InputError, UsageError
from tracemill.quality.contracts import generated as values
from tracemill.quality.contracts.cases import Case, Raw, edge_cases, pointed
from tracemill.quality.contracts.report import Problem, Report
from tracemill.quality.contracts.shapes import Shape
from tracemill.quality.contracts.targets import Endpoint

_LONGEST = 2_000


def check_openapi(
    document: Mapping[str, Any],
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    generated: int = 50,
    seed: int = 0,
) -> Report:
    """Whether a server keeps to its OpenAPI document, operation by operation.

    Statuses, content types, headers and bodies have to be declared; values that the document allows
    have to be taken, others refused, and nothing may break. What is sent is made as small as it can
    be for each kind of problem.

    Args:
        document: the OpenAPI document.
        url: where the server is.
        headers: as of `Endpoint`: `${NAME}` stands for a variable of the environment.
        generated: values of each kind, right and wrong, for each operation.

    Raises `UsageError` for a document that is none, or without the extra `contracts`; `InputError`
    where nobody listens.
    """
    endpoint = Endpoint(url, headers=headers or {})
    problems: list[Problem] = []
    notes: list[str] = []
    count = edges = broken = 0
    for operation in _operations(document):
        judge = _Judge(operation, endpoint)
        strategies = {mode: values.strategy_of(operation, mode) for mode in values.MODES}
        for case, body in _edges(document, operation, strategies["positive"], seed):
            found = judge.edge(case, body)
            problems += found
            edges, broken = edges + 1, broken + bool(found)
        search = values.search(judge, strategies, generated, seed, notes)
        problems += search.found
        count += search.sent
    return Report(url, tuple(problems), edges, count, broken, tuple(dict.fromkeys(notes)))


def _edges(
    document: Mapping[str, Any], operation: Any, strategy: Any, seed: int
) -> Iterator[tuple[Case, Any]]:
    """Edge cases of an operation's JSON body, and the request that carries each."""
    content: Any = operation.definition.raw.get("requestBody", {})
    if "$ref" in content:
        content = pointed(document, content["$ref"])
    schema = content.get("content", {}).get("application/json", {}).get("schema")
    if schema is None or strategy is None:
        return
    # What it refers to lies in the document.
    form = Shape({"components": document.get("components", {}), **schema})
    carriers: list[Any] = values.shortest(strategy, values.body_of, seed)
    if not carriers or not form.verdict(values.body_of(carriers[0])):
        return
    carrier = carriers[0]
    for case in edge_cases(form, [values.body_of(carrier)]):
        # As bytes: schemathesis copies values, which deep ones do not survive.
        sent = case.sent.body if isinstance(case.sent, Raw) else json.dumps(case.sent).encode()
        yield (
            case,
            operation.Case(
                path_parameters=carrier.path_parameters,
                query=carrier.query,
                headers=carrier.headers,
                cookies=carrier.cookies,
                body=sent,
                media_type="application/json",
            ),
        )


class _Judge:
    """Sends a case of one operation and lets schemathesis judge the answer."""

    def __init__(self, operation: Any, endpoint: Endpoint) -> None:
        self._label = operation.label
        self._url = endpoint.url
        self._headers, self._secrets = endpoint.resolved(), endpoint.secrets()

    def edge(self, edge: Case, case: Any) -> list[Problem]:
        """What is wrong with the answer to an edge case, of which is known what has to become."""
        response, failures = self._asked(case)
        found = [self._problem(edge.name, case, response, *_told(each)) for each in failures]
        if edge.valid is False and 200 <= response.status_code < 300:
            said = "accepted_invalid", f"a wrong value was taken: status {response.status_code}"
            found.append(self._problem(edge.name, case, response, *said))
        if edge.valid and 400 <= response.status_code < 500:
            said = "refused_valid", f"a right value was refused: status {response.status_code}"
            found.append(self._problem(edge.name, case, response, *said))
        return found

    def __call__(self, case: Any) -> list[Problem]:
        """What is wrong with the answer to a generated case."""
        response, failures = self._asked(case)
        return [self._problem("generated", case, response, *_told(each)) for each in failures]

    def _asked(self, case: Any) -> tuple[Any, list[Any]]:
        import requests

        try:
            response = case.call(base_url=self._url, headers=self._headers)
        except requests.ConnectionError as error:
            raise InputError(f"{self._url}: nobody answers there: {error}"[:300]) from None
        try:
            case.validate_response(response)
        except BaseExceptionGroup as group:
            return response, _leaves(group)
        return response, []

    def _problem(self, name: str, case: Any, response: Any, kind: str, said: str) -> Problem:
        got = self._clean(f"{response.status_code} {response.text[:500]}")
        curl = self._clean(case.as_curl_command(headers=self._headers))
        if len(curl) > _LONGEST:
            curl = "send `problem.sent` of the report"
        return Problem(kind, f"{self._label}: {name}", _sent(case), got, self._clean(said), curl)

    def _clean(self, text: str) -> str:
        for value, name in self._secrets:
            text = text.replace(value, name)
        return text


def _operations(document: Mapping[str, Any]) -> list[Any]:
    library = values.library()
    try:
        return [
            each.ok() for each in library.openapi.from_dict(dict(document)).get_all_operations()
        ]
    except Exception as error:  # noqa: BLE001 (its errors have no common root)
        raise UsageError(f"this is no OpenAPI document: {str(error)[:300]}") from None


def _sent(case: Any) -> Any:
    body = values.body_of(case)
    parts = {
        "path": case.path_parameters,
        "query": case.query,
        "headers": case.headers,
        "body": body.body.decode(errors="replace") if isinstance(body, Raw) else body,
    }
    return {name: _plain(value) for name, value in parts.items() if value}


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _leaves(group: BaseExceptionGroup[Any]) -> list[Any]:
    found: list[Any] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]  # pyright: ignore[reportUnknownArgumentType]
    return found


def _told(failure: Any) -> tuple[str, str]:
    """Its kind, `ServerError` as `server_error`, and its message in a line."""
    name = type(failure).__name__
    kind = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]
    return kind, f"{failure.title}: {' '.join(failure.message.split())}"[:500]
