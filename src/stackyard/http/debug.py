"""The debug listener: for operators, without login, never exposed."""

from collections.abc import Mapping
from dataclasses import dataclass

from stackyard.http.answer import Answer, document, refusal
from stackyard.http.asgi import Receive, Scope, Send
from stackyard.oci.errors import RouteUnknown


@dataclass(frozen=True, slots=True)
class DebugApp:
    """`GET /debug/health`: what fails, by name, as Distribution answers it."""

    failing: Mapping[str, str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._answer(scope["path"]).send(scope, send)

    def _answer(self, path: str) -> Answer:
        if path == "/debug/health":
            return document(dict(self.failing), status=503 if self.failing else 200)
        return refusal(RouteUnknown())
