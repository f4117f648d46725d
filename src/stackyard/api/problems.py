"""Every refusal of the admin API: problem details (RFC 9457), whatever went wrong and wherever."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from stackyard.oci.errors import RegistryError

MEDIA_TYPE = "application/problem+json"

SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "Why a request was refused (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "description": "Always about:blank: `code` tells problems apart."},
        "title": {"type": "string", "description": "What the status means."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "One sentence for a person."},
        "code": {"type": "string", "description": "For programs; as in the registry's own errors where there is one."},
        "about": {"type": "object", "description": "Data of the case."},
        "errors": {
            "type": "array",
            "description": "What is wrong in the request, place by place.",
            "items": {
                "type": "object",
                "required": ["where", "message"],
                "properties": {"where": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
"""As OpenAPI describes the document."""


def problem(
    status: int,
    detail: str,
    *,
    code: str,
    about: Mapping[str, Any] | None = None,
    errors: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """The document.

    Args:
        detail: One sentence that says what to do; shown to people, so it holds no secret.
        code: A word for programs.
        about: Data of the case.
        errors: Of a request whose form is wrong: `where` and `message` each.
    """
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if about:
        document["about"] = dict(about)
    if errors:
        document["errors"] = list(errors)
    return document


def of(error: RegistryError) -> dict[str, Any]:
    """The document of a refusal."""
    return problem(error.status, error.text, code=error.code, about=error.detail)


def body(document: Mapping[str, Any]) -> bytes:
    """The document as it goes out."""
    return json.dumps(document).encode()
