"""Writes `docs/rest.md` and `docs/settings.md`: `python -m axons.app.describe DOCS`."""

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from axons.app.build import build_api
from axons.app.rest.problems import ANYWHERE
from axons.app.settings import Settings

_METHODS = ("get", "post", "put", "patch", "delete")

_REST_HEAD = """# REST

Made from the code by `make docs`; the running server shows the same at `/api/docs`, to read and to try, without a
network, and as OpenAPI 3.1 at `/api/openapi.json`.

Everything below is under `/api`. Sign in with `axons login`, make a token with `axons token create`, and send
`Authorization: Bearer TOKEN`. `Client` in `axons/client.py` does all of this, with retries and uploads in parts.

- **Errors** are problem+json (RFC 9457): `detail` is a sentence for the person, `type` names the kind, `field` says
  what to correct. What you may not see is 404. Any route may answer 400, 401, 403, 404, 409, 413, 422 or 503, so the
  tables below name the other answers only: 412 is a stale save, 429 a full queue with `Retry-After`, 507 a full disk.
- **Long work** answers 202 with a job; poll `/v1/jobs/{id}` until `state` is done, failed or cancelled; see `reason`.
- **Pages**: `items` and `next`; send `next` as `cursor` for the following page. `limit` is at most 500.
- **Creations** take an `Idempotency-Key` header: sent again with the same key within a day, they are answered as the
  first time and done once. Answers with secrets (tokens, first passwords) are kept nowhere and not repeated.
- **Files** go in by parts: `POST /v1/uploads`, `PUT /v1/uploads/{id}/parts/{n}` with the raw bytes, then
  `POST /v1/uploads/{id}:complete`.
"""

_SETTINGS_HEAD = """# Settings

Made from `axons/app/settings.py` by `make docs`. `axons up` reads them once, from environment variables.

| variable | default | meaning |
|---|---|---|
"""

_SETTINGS_TAIL = """
`AXONS_URL` and `AXONS_TOKEN` belong to the command: which server it talks to, and as whom. S3 endpoint and keys come
from the standard `AWS_*` variables on every node (`AWS_ENDPOINT_URL_S3` works). Ray's token comes from
`RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH`; `axons up` makes one in the data folder where there is none.
"""


def rest_page() -> str:
    """Every route, by tag."""
    document = build_api().openapi()
    routes: dict[str, list[str]] = defaultdict(list)
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if route := methods.get(method):
                routes[(route.get("tags") or ["other"])[0]].append(_route_line(path, method, route))
    parts = [
        f"\n## {tag}\n\n| route | does | answers |\n|---|---|---|\n{''.join(routes[tag])}" for tag in sorted(routes)
    ]
    return _REST_HEAD + "".join(parts)


def settings_page() -> str:
    """Every setting with its default."""
    return _SETTINGS_HEAD + "".join(_setting_lines()) + _SETTINGS_TAIL


def _route_line(path: str, method: str, route: dict[str, Any]) -> str:
    words = " ".join((route.get("description") or route.get("summary") or "").split()).replace("|", "\\|")
    codes = ", ".join(code for code in sorted(route["responses"]) if int(code) not in ANYWHERE)
    return f"| `{method.upper()} {path}` | {words} | {codes} |\n"


def _setting_lines() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = (
            "–" if default is None or default is PydanticUndefined or isinstance(default, SecretStr) else f"`{default}`"
        )
        yield f"| `AXONS_{name.upper()}` | {shown} | {field.description} |\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) / "rest.md").write_text(rest_page())
    (Path(sys.argv[1]) / "settings.md").write_text(settings_page())
