"""Access control of the review server: who may ask, what a browser may do with the answers.

Imports nothing of anowild, so that it can be audited alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

#: Headers of every response.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets in who belongs here, and no request that another site made.

    Args:
        hosts: values of ``Host`` that are this server; a name that somebody else points at this
            machine is none of them. Empty: any, where a token is asked for.
        token: asked for, in the address or a cookie; None: of nobody.
        secret: what the page puts into a header of every change it makes; other sites cannot.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str | None, secret: str) -> None:
        self.app, self.hosts, self.token, self.secret = app, hosts, token, secret
        self.cookie = cookie_name(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await PlainTextResponse(refusal, 403, headers=HEADERS)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, request: Request) -> str | None:
        if self.hosts and request.headers.get("host", "") not in self.hosts:
            return "This server is not what that address says."
        if self.token is not None:
            given = request.query_params.get("token") or request.cookies.get(self.cookie) or ""
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                return "Open the address that the command printed: it holds a token."
        if request.method not in ("GET", "HEAD"):
            given = request.headers.get("x-anowild", "")
            if not hmac.compare_digest(given.encode(), self.secret.encode()):
                return "Changes are made on the page of this server alone."
        return None


def cookie_name(token: str | None) -> str:
    """A name of its own for each server: cookies do not know ports."""
    return f"anowild-{hashlib.sha256((token or '').encode()).hexdigest()[:8]}"


def access_rules(host: str, port: int) -> tuple[frozenset[str], str | None]:
    """Values of ``Host`` that are let in, and the token that others are asked for, by the address."""
    if host in ("127.0.0.1", "localhost", "::1"):
        names = ("127.0.0.1", "localhost", "[::1]")
        own = {f"{name}:{port}" for name in names}
        return frozenset(own | set(names) if port == 80 else own), None
    return frozenset(), secrets.token_urlsafe(16)
