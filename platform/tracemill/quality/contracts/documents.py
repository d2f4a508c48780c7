"""All operations of an OpenAPI document, checked by schemathesis; what it finds, as a `Report`."""

from collections.abc import Mapping
from typing import Any

from tracemill.errors import InputError, UsageError
from tracemill.quality.contracts import generated as values
from tracemill.quality.contracts.cases import Case
from tracemill.quality.contracts.report import Problem, Report
from tracemill.quality.contracts.targets import Endpoint


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
    count = 0
    for operation in _operations(document):
        judge = _Judge(operation, endpoint)
        strategies = {mode: values.strategy_of(operation, mode) for mode in values.MODES}
        found = values.search(judge, strategies, generated, seed, notes)
        problems += found.found
        count += found.sent
    return Report(url, tuple(problems), 0, count, notes=tuple(dict.fromkeys(notes)))


class _Judge:
    """Sends a case of one operation and lets schemathesis judge the answer."""

    def __init__(self, operation: Any, endpoint: Endpoint) -> None:
        self._label = operation.label
        self._url = endpoint.url
        self._headers, self._secrets = endpoint.resolved(), endpoint.secrets()

    def __call__(self, case: Any) -> list[Problem]:
        import requests

        try:
            response = case.call(base_url=self._url, headers=self._headers)
        except requests.ConnectionError as error:
            raise InputError(f"{self._url}: nobody answers there: {error}"[:300]) from None
        try:
            case.validate_response(response)
        except BaseExceptionGroup as group:
            failures = [each for each in _leaves(group)]
            return [self._problem(case, response, each) for each in failures]
        return []

    def _problem(self, case: Any, response: Any, failure: Any) -> Problem:
        shown = Case(f"{self._label} (generated)", _sent(case), None)
        got = self._clean(f"{response.status_code} {response.text[:500]}")
        said = " ".join(failure.message.split())
        problem = self._clean(f"{failure.title}: {said}"[:500])
        curl = self._clean(case.as_curl_command(headers=self._headers))
        return Problem(_kind(failure), shown.name, shown.sent, got, problem, curl)

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
    parts = {
        "path": case.path_parameters,
        "query": case.query,
        "headers": case.headers,
        "body": values.body_of(case),
    }
    return {name: _plain(value) for name, value in parts.items() if value}


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _leaves(group: BaseExceptionGroup[Any]) -> list[Any]:
    found: list[Any] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]  # pyright: ignore[reportUnknownArgumentType]
    return found


def _kind(failure: Any) -> str:
    """`ServerError` -> `server_error`."""
    name = type(failure).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]
