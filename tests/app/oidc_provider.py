"""A small OpenID Connect provider on loopback, over real HTTP, that vouches for whomever the test says."""

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

from tests.conftest import free_port, wait_for_port

CLIENT_ID, CLIENT_SECRET = "axons", "client secret"


class Provider:
    """What it says can be changed by the test.

    Args:
        claims: over the right ones in the identity token.
        key: that signs; `published` is what it says its key were.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.claims: dict[str, Any] = {}
        self.key = self.published = RSAKey.generate_key(2048, parameters={"kid": "1", "alg": "RS256"})
        self._asked: dict[str, dict[str, str]] = {}
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._describe),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/keys", self._keys),
            ]
        )

    async def _describe(self, _request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            }
        )

    async def _keys(self, _request: Request) -> JSONResponse:
        return JSONResponse({"keys": [self.published.as_dict(private=False)]})

    async def _authorize(self, request: Request) -> RedirectResponse:
        asked = dict(request.query_params)
        code = f"code-{len(self._asked)}"
        self._asked[code] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 302)

    async def _token(self, request: Request) -> JSONResponse:
        form = await request.form()
        asked = self._asked.pop(str(form["code"]), None)
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(str(form["code_verifier"]).encode()).digest())
        assert asked is not None
        assert request.headers["authorization"] == f"Basic {basic}"
        assert asked["code_challenge"] == challenge.decode().rstrip("=")
        at = int(time.time())
        right = {
            "iss": self.issuer,
            "sub": "person-1",
            "aud": CLIENT_ID,
            "iat": at,
            "exp": at + 60,
            "nonce": asked["nonce"],
            "preferred_username": "maria",
            "name": "María José",
        }
        token = jwt.encode({"alg": "RS256", "kid": "1"}, right | self.claims, self.key)
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "expires_in": 60, "id_token": token})


@contextmanager
def running_provider() -> Iterator[Provider]:
    port = free_port()
    provider = Provider(f"http://127.0.0.1:{port}")
    server = uvicorn.Server(uvicorn.Config(provider.app, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for_port(port)
    yield provider
    server.should_exit = True
    thread.join()
