"""The documentation page of the REST interface, drawn from its OpenAPI document.

FastAPI's own page loads its scripts from another host; this one needs no other host.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

_TEMPLATE = Path(__file__).with_name("reference.html")


def page(document: Mapping[str, Any]) -> str:
    """Returns the HTML page of an OpenAPI document."""
    return _template().render(
        info=document["info"],
        operations=[
            (method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ],
        schemas={
            name: schema
            for name, schema in document["components"]["schemas"].items()
            if "Validation" not in name  # FastAPI's own error, which is never sent
        },
        kind=kind,
    )


def kind(schema: Mapping[str, Any]) -> str:
    """Returns the type of a value in a few words, such as "array of Face"."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(kind, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " or ".join(f'"{value}"' for value in schema.get("enum", [schema.get("const")]))
    if "prefixItems" in schema:
        return f"[{', '.join(map(kind, schema['prefixItems']))}]"
    if "items" in schema:
        return f"array of {kind(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {kind(schema['additionalProperties'])}"
    name = str(schema.get("type", "any"))
    low, high = schema.get("exclusiveMinimum"), schema.get("maximum")
    return name if low is None else f"{name} above {low:g}, up to {high:g}"


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
