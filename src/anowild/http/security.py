"""Access control of a server: allowed hosts, token, protection against CSRF, response headers.

This module imports nothing from anowild, so that it can be audited alone.
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
    """ASGI middleware that refuses unauthorized and cross-site requests with status 403.

    Args:
        app: the application to protect.
        hosts: allowed values of the ``Host`` header, which stops DNS rebinding: a foreign name that
            points at this machine is refused. Empty: any value; a token protects the server then.
        token: required in the query or in a cookie; None: not required.
        secret: required in the header ``x-anowild`` of every request that changes something, which
            stops cross-site request forgery: only the page itself can read the secret.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str | None, secret: str) -> None:
        self.app, self.hosts, self.token, self.secret = app, hosts, token, secret
        self.cookie = cookie_name(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request, or pass the request on."""
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
        """Return why a request is refused; None: it is allowed."""
        if self.hosts and request.headers.get("host", "") not in self.hosts:
            return "The host name of this address is not allowed; open the address that the command printed."
        if self.token is not None:
            given = request.query_params.get("token") or request.cookies.get(self.cookie) or ""
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                return "The token is missing or wrong; open the address that the command printed."
        if request.method not in ("GET", "HEAD"):
            given = request.headers.get("x-anowild", "")
            if not hmac.compare_digest(given.encode(), self.secret.encode()):
                return "Marks can only be changed from the page of this server; reload the page."
        return None


def cookie_name(token: str | None) -> str:
    """Return a cookie name that differs between servers; browsers share cookies between ports."""
    return f"anowild-{hashlib.sha256((token or '').encode()).hexdigest()[:8]}"


#: Addresses that only this machine reaches.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def access_rules(host: str, port: int, token: bool = True) -> tuple[frozenset[str], str | None]:
    """Return the allowed hosts and the token of a server, as :class:`Guard` takes them.

    On a loopback address only this machine's names are allowed. The token is random: other accounts of
    this machine reach a loopback address too.

    Args:
        host: address that the server listens on.
        port: of the server.
        token: whether one is required.
    """
    drawn = secrets.token_urlsafe(16) if token else None
    if host not in LOOPBACK:
        return frozenset(), drawn
    names = ("127.0.0.1", "localhost", "[::1]")
    own = {f"{name}:{port}" for name in names}
    return frozenset(own | set(names) if port == 80 else own), drawn
