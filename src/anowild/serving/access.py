"""Who may ask: the host that a request names, and the token that it brings."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anowild.http.security import HEADERS
from anowild.serving.limits import Refusal

#: The one route that needs no token, for whoever watches over processes.
OPEN = "/health"


class Access:
    """ASGI middleware that refuses foreign hosts and requests without the token, and sets safe headers.

    Args:
        app: the application to protect.
        hosts: allowed values of the ``Host`` header; empty: any. See `http.security.access_rules`.
        token: required as ``Authorization: Bearer TOKEN``; None: not required.
        refused: is told the reason of each refusal, in one word.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: frozenset[str],
        token: str | None,
        refused: Callable[[str], None],
    ) -> None:
        self.app, self.hosts, self.token, self.refused = app, hosts, token, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request, or pass the request on."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        refusal = self._refusal(Request(scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, with_headers)
            return
        self.refused(refusal.reason)
        headers = {"WWW-Authenticate": "Bearer"} if refusal.status_code == 401 else None
        answer = JSONResponse({"detail": refusal.detail}, refusal.status_code, headers)
        await answer(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Refusal | None:
        """Return why a request is refused; None: it is allowed."""
        if self.hosts:
            named = request.headers.get("host", "")
            origin = request.headers.get("origin")
            # A page of another site cannot read answers, but could keep the service busy.
            if named not in self.hosts or origin not in (None, f"http://{named}"):
                return Refusal(403, "host", "This address is for programs of this machine alone.")
        # Not `request.url`, which has the header Host in it.
        if self.token is not None and request.scope["path"] != OPEN:
            given = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
                return Refusal(
                    401, "token", "Send the service's token: Authorization: Bearer TOKEN."
                )
        return None
