"""The OpenAPI document, made of the routes and the forms of their bodies, and a page of it."""

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from tracemill.server.routes import Route

_ERROR = {"description": "An error, in the words of the dialect."}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """OpenAPI 3.1."""
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation: dict[str, Any] = {
            "operationId": f"{route.dialect.name}_{route.handler.__module__.rpartition('.')[2]}_"
            f"{route.handler.__name__}_{route.method.lower()}"
            + ("_beta" if "v1beta" in route.path else ""),
            "summary": route.summary,
            "tags": [route.dialect.name],
            "responses": {
                "200": {"description": "The answer."},
                **{str(status): _ERROR for status in (400, 401, 403, 404, 413, 429)},
                "default": _ERROR,
            },
        }
        names = re.findall(r"{(\w+)}", route.shown)
        if names:
            operation["parameters"] = [
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1},
                }
                for name in names
            ]
        if route.body is not None:
            # Dialects have forms of the same name: each goes by the module of its route.
            module = route.handler.__module__.rpartition(".")[2]
            place = f"#/components/schemas/{module}.{{model}}"
            schema = route.body.json_schema(ref_template=place)
            named = schema.pop("$defs", {}).items()
            schemas |= {f"{module}.{name}": each for name, each in named}
            operation["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": schema}},
            }
        if route.scope:
            operation["security"] = [{"bearer": []}, {"x-api-key": []}]
        paths.setdefault(route.shown, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tracemill",
            "version": version("tracemill"),
            "description": "Every model at one address, in the languages of OpenAI, Anthropic, "
            "Gemini and Cohere.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }
