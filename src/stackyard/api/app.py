"""The admin API itself: its routes, and everything that they raise as problem details."""

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from stackyard.api import (
    audit,
    collection,
    history,
    imports,
    jobs,
    manifests,
    problems,
    quotas,
    repositories,
    retention,
    rules,
    tags,
    usage,
)
from stackyard.api.mount import PREFIX, Application, Message, Receive, Scope, Send
from stackyard.oci.errors import RegistryError
from stackyard.registry import failures
from stackyard.registry.registry import Registry

ROUTERS: tuple[APIRouter, ...] = (
    collection.router,
    history.router,
    repositories.router,
    tags.router,
    manifests.router,
    usage.router,
    jobs.router,
    audit.router,
    quotas.router,
    rules.router,
    retention.router,
    imports.router,
)
"""Each noun's endpoints. Of two paths that match one request, that of the first router answers."""

_MOST = 4 * 2**20  # bytes of a JSON document
_CODES = {404: "ROUTE_UNKNOWN", 405: "UNSUPPORTED", 413: "TOO_LARGE", 422: "INVALID"}


def make(registry: Registry) -> FastAPI:
    """The application over this registry."""
    app = FastAPI(
        title="Stackyard admin API",
        version="1",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        responses={"default": {"description": "The request was refused."}},
    )
    app.state.registry = registry
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    app.add_exception_handler(RegistryError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    app.add_middleware(Limited)
    return app


def _operation_id(route: APIRoute) -> str:
    verb = "".join(sorted(route.methods or ())).lower()
    return route.name if verb in ("get", "post") or route.name.startswith(verb) else f"{route.name}_by_{verb}"


def _openapi(app: FastAPI) -> dict[str, Any]:
    """As FastAPI makes it, with problem details wherever something is refused."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        document.setdefault("components", {}).setdefault("schemas", {})["Problem"] = problems.SCHEMA
        refused = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        for methods in document["paths"].values():
            for operation in methods.values():
                operation["responses"]["default"]["content"] = refused
        app.openapi_schema = document
    return app.openapi_schema


class Limited:
    """Refuses JSON that is too long to be read into memory. Content in other forms is read piece by piece."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        left = _MOST

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"a JSON document may have {_MOST} bytes at most")
            return message

        is_json = any(name == b"content-type" and b"json" in value for name, value in scope.get("headers", ()))
        await self.app(scope, counted if is_json else receive, send)


def _answer(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(problems.body(document), document["status"], headers, problems.MEDIA_TYPE)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RegistryError)
    return _answer(problems.of(error), error.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [
        {"where": ".".join(map(str, one["loc"])), "message": one["msg"].removeprefix("Value error, ")}
        for one in error.errors()
    ]
    sentence = "; ".join(
        f"{member}: {one['message']}" if (member := one["where"].partition(".")[2]) else one["message"] for one in wrong
    )
    return _answer(problems.problem(422, sentence, code="INVALID", errors=wrong))


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "INVALID")
    return _answer(problems.problem(error.status_code, error.detail, code=code), dict(error.headers or {}))


async def _failed(_: Request, error: Exception) -> Response:
    """What is not a mistake of the client. The door logs it when it comes by there."""
    refused = failures.refusal(error)
    if refused is not None:
        return await _refused(_, refused)
    return _answer(problems.problem(500, "unexpected error: the server's log tells more", code="UNKNOWN"))
