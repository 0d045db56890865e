"""The door in front of everything: who, from where, how much."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import select
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from axons.app.gate import PUBLIC, Gate
from axons.app.services import sign_in as sign_in_service
from axons.app.tables import SignIn, Token, User, now
from tests.app.browser import ADDRESS, give_password, open_browser, sign_in, signed_in
from tests.app.serving import the_app

CROSS_SITE = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
HEADERS = {
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "content-security-policy",
    "cache-control",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "permissions-policy",
}


def change(platform, table, **values) -> None:
    platform.database.write(lambda session: session.exec(update(table).values(**values)))


def last_seen(platform):
    return platform.database.read(lambda session: session.exec(select(SignIn)).one().last_seen_at)


def routes(platform) -> list[tuple[str, str]]:
    """Every method and address, with `x` for each id."""
    mounts = [route for route in open_browser(platform).app._app.routes if isinstance(route, Mount)]
    paths = {(mount.path + path): methods for mount in mounts for path, methods in mount.app.openapi()["paths"].items()}
    listed = [(method.upper(), path) for path in paths for method in paths[path]]
    filled = [(method, path.replace("{", "").replace("}", "")) for method, path in listed]
    assert len(filled) > 50
    return filled


def test_nobody_gets_in_without_signing_in(platform):
    browser = open_browser(platform)
    answers = {
        (method, path): browser.request(method, path, json={}).status_code
        for method, path in routes(platform)
        if path not in PUBLIC
    }
    assert set(answers.values()) == {401}


def test_an_address_nobody_has_written_down_needs_a_sign_in_too(platform):
    assert open_browser(platform).get("/gradio_api/file=/etc/passwd").status_code == 401


def test_the_health_is_open_to_everybody_under_any_name(platform):
    assert open_browser(platform).get("/healthz", headers={"host": "10.0.0.7:8000"}).status_code in (200, 503)


def test_a_browser_that_wants_a_page_is_sent_to_sign_in(platform):
    answer = open_browser(platform).get("/?p=1&tab=train", headers={"accept": "text/html,*/*"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2F%3Fp%3D1%26tab%3Dtrain")


def test_an_expired_session_gets_401_from_rest(platform, ana):
    browser = signed_in(platform, ana)
    change(platform, SignIn, expires_at=now() - timedelta(seconds=1))
    assert browser.get("/api/v1/projects").status_code == 401


def test_a_session_without_requests_ends(platform, ana):
    browser = signed_in(platform, ana)
    change(platform, SignIn, last_seen_at=now() - timedelta(minutes=61))
    assert browser.get("/api/v1/projects").status_code == 401


def test_a_session_with_requests_goes_on(platform, ana):
    browser = signed_in(platform, ana)
    change(platform, SignIn, last_seen_at=now() - timedelta(minutes=59))
    browser.get("/api/v1/projects")
    seen = last_seen(platform)
    assert now() - seen < timedelta(seconds=30)


def test_a_session_is_written_down_at_most_once_a_minute(platform, ana):
    browser = signed_in(platform, ana)
    before = last_seen(platform)
    browser.get("/api/v1/projects")
    assert last_seen(platform) == before


def test_a_disabled_account_is_out_at_its_next_request(platform, ana):
    browser = signed_in(platform, ana)
    change(platform, User, is_active=False)
    assert browser.get("/api/v1/projects").status_code == 401


def test_a_token_signs_in(platform, ana):
    token = signed_in(platform, ana).post("/api/v1/auth/tokens", json={"name": "laptop"}).json()["token"]
    answer = open_browser(platform).get("/api/v1/auth/me", headers={"authorization": f"Bearer {token}"})
    assert (answer.json()["user"]["name"], answer.json()["signed_in_by"]) == ("ana", "token")


def test_a_token_works_from_anywhere_since_no_browser_sends_it_by_itself(platform, ana):
    token = signed_in(platform, ana).post("/api/v1/auth/tokens", json={"name": "laptop"}).json()["token"]
    headers = {"authorization": f"Bearer {token}", "origin": "https://notebook.example"}
    answer = open_browser(platform).post("/api/v1/projects", json={"name": "p"}, headers=headers)
    assert answer.status_code == 201


@pytest.mark.parametrize("values", [{"revoked_at": now()}, {"expires_at": now() - timedelta(seconds=1)}])
def test_a_token_that_ended_is_refused_even_beside_a_good_cookie(platform, ana, values):
    browser = signed_in(platform, ana)
    token = browser.post("/api/v1/auth/tokens", json={"name": "laptop"}).json()["token"]
    change(platform, Token, **values)
    answer = browser.get("/api/v1/auth/me", headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_unsafe_requests_from_other_sites_are_refused_on_every_route(platform, ana):
    browser = signed_in(platform, ana)
    answers = {
        (method, path): browser.request(method, path, json={}, headers=CROSS_SITE).status_code
        for method, path in routes(platform)
        if method not in ("GET", "HEAD")
    }
    assert set(answers.values()) == {403}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": ADDRESS}, 201),
        ({"sec-fetch-site": "same-origin"}, 201),
        ({"sec-fetch-site": "same-site", "origin": ADDRESS}, 403),
        ({"sec-fetch-site": "cross-site", "origin": ADDRESS}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"origin": "http://127.0.0.1:8000.evil.example"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": ""}, 403),
    ],
)
def test_a_cookie_counts_only_from_our_own_pages(platform, ana, headers, status):
    browser = signed_in(platform, ana)
    browser.headers.pop("origin")
    assert browser.post("/api/v1/projects", json={"name": "p"}, headers=headers).status_code == status


def test_a_cookie_without_a_word_where_it_comes_from_is_refused(platform, ana):
    browser = signed_in(platform, ana)
    browser.headers.pop("origin")
    assert browser.post("/api/v1/projects", json={"name": "p"}).status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", "", "[", "axons.example"])
def test_a_request_for_another_host_is_refused(platform, ana, host):
    answer = signed_in(platform, ana).get("/api/v1/projects", headers={"host": host})
    assert (answer.status_code, answer.json()["title"]) == (400, "wrong-host")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_this_machine_is_reached_under_its_own_names(platform, ana, host):
    assert signed_in(platform, ana).get("/api/v1/auth/me", headers={"host": host}).status_code == 200


def test_every_answer_has_the_security_headers(platform, ana):
    browser = signed_in(platform, ana)
    answers = [browser.request(method, path) for method, path in routes(platform) if method == "GET"]
    answers += [open_browser(platform).get(path) for path in ("/healthz", "/api/v1/projects", "/nothing")]
    assert [answer.url for answer in answers if not answer.headers.keys() >= HEADERS] == []
    assert {answer.headers["x-content-type-options"] for answer in answers} == {"nosniff"}


def test_nothing_is_kept_in_a_cache_unless_a_route_says_so(platform, ana):
    assert signed_in(platform, ana).get("/api/v1/projects").headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", ADDRESS])
def test_no_other_site_may_read_an_answer(platform, ana, origin):
    async def open_to_all(_scope, _receive, send) -> None:
        headers = [(b"access-control-allow-origin", origin.encode()), (b"access-control-allow-credentials", b"true")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"secret"})

    browser = signed_in(platform, ana)
    cookies = {"axons": browser.cookies["axons"]}
    mounted = TestClient(Gate(open_to_all, platform), base_url=ADDRESS, cookies=cookies)
    answer = mounted.get("/", headers={"origin": origin})
    assert answer.content == b"secret"
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_body_that_is_too_large_by_its_length_is_not_read(platform, ana):
    browser = signed_in(platform, ana)
    answer = browser.post("/api/v1/projects", content=b"x", headers={"content-length": str((16 << 20) + 1)})
    assert (answer.status_code, answer.json()["title"]) == (413, "too-large")


def test_a_body_without_a_length_is_counted_as_it_comes(platform, ana):
    sent = []

    def parts():
        for number in range(64):
            sent.append(number)
            yield bytes(1 << 20)

    browser = signed_in(platform, ana)
    answer = browser.post("/api/v1/projects", content=parts(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["title"]) == (413, "too-large")


@pytest.mark.parametrize("length", ["-1", "1e3", "²", ""])
def test_a_length_that_is_no_number_is_refused(platform, ana, length):
    browser = signed_in(platform, ana)
    answer = browser.post("/api/v1/projects", content=b"{}", headers=[(b"content-length", length.encode())])
    assert answer.status_code == 400


def test_web_sockets_stay_closed(platform, ana):
    with pytest.raises(WebSocketDisconnect), signed_in(platform, ana).websocket_connect("/queue/join"):
        pass


def test_a_first_password_opens_nothing_but_its_own_change(platform, ana):
    browser = signed_in(platform, ana)
    change(platform, User, must_change_password=True)
    assert browser.get("/api/v1/projects").json()["title"] == "password-change-required"
    assert browser.get("/api/v1/auth/me").status_code == 200


def test_over_https_the_cookie_is_bound_to_the_host(platform, ana):
    settings = platform.settings.model_copy(update={"public_url": "https://axons.example", "secret": SecretStr("s")})
    platform = type(platform)(settings=settings, database=platform.database, storage=platform.storage)
    give_password(platform, ana)
    browser = TestClient(
        the_app(platform), base_url="https://axons.example", headers={"origin": "https://axons.example"}
    )
    answer = sign_in(browser, ana)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-axons=")
    assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
    assert "strict-transport-security" in answer.headers
    assert browser.get("/api/v1/auth/me").status_code == 200


def test_over_plain_http_from_elsewhere_nothing_is_sent_of_which_browsers_complain(platform):
    settings = platform.settings.model_copy(update={"public_url": "http://axons.example"})
    platform = type(platform)(settings=settings, database=platform.database, storage=platform.storage)
    answer = TestClient(the_app(platform), base_url="http://axons.example").get("/login")
    assert HEADERS - set(answer.headers) == {"cross-origin-opener-policy"}


def test_requests_beside_each_other_are_all_let_in(platform, ana):
    browser = signed_in(platform, ana)
    change(platform, SignIn, last_seen_at=now() - timedelta(minutes=5))
    # Entered: one event loop for all requests, as a server has. Alone each has its own, and what waits for its turn in
    # one loop is not woken from another.
    with browser, ThreadPoolExecutor(20) as threads:
        statuses = list(threads.map(lambda _: browser.get("/api/v1/auth/me").status_code, range(60)))
    assert statuses == [200] * 60


def lookups(monkeypatch) -> list[str]:
    """The tokens and cookies that are looked for in the database from now on."""
    asked: list[str] = []
    found = sign_in_service.visitor_of_cookie
    monkeypatch.setattr(
        sign_in_service,
        "visitor_of_cookie",
        lambda session, cookie, settings: asked.append(cookie) or found(session, cookie, settings),
    )
    return asked


def test_who_was_let_in_a_moment_ago_is_not_looked_up_again(platform, ana, monkeypatch):
    browser, asked = signed_in(platform, ana), lookups(monkeypatch)
    statuses = [browser.get("/api/v1/projects").status_code for _ in range(5)]
    assert (statuses, len(asked)) == ([200] * 5, 1)


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (User, {"is_active": False}),
        (SignIn, {"revoked_at": now()}),
        (SignIn, {"expires_at": now() - timedelta(seconds=1)}),
    ],
)
def test_who_was_let_in_a_moment_ago_is_out_at_once_after_a_change(platform, ana, table, values):
    browser = signed_in(platform, ana)
    before = browser.get("/api/v1/projects").status_code
    change(platform, table, **values)
    assert (before, browser.get("/api/v1/projects").status_code) == (200, 401)


def test_another_role_counts_from_the_next_request(platform, ana):
    browser = signed_in(platform, ana)
    before = browser.get("/api/v1/audit").status_code
    change(platform, User, role="administrator")
    assert (before, browser.get("/api/v1/audit").status_code) == (403, 200)


def test_whoever_changes_while_being_looked_up_is_looked_up_again(platform, ana, monkeypatch):
    browser, found, is_first = signed_in(platform, ana), sign_in_service.visitor_of_cookie, iter([True])

    def disabled_meanwhile(*asked):
        visitor = found(*asked)
        if next(is_first, False):
            thread = threading.Thread(target=change, args=(platform, User), kwargs={"is_active": False})
            thread.start()
            thread.join()
        return visitor

    monkeypatch.setattr(sign_in_service, "visitor_of_cookie", disabled_meanwhile)
    assert [browser.get("/api/v1/projects").status_code for _ in range(2)] == [200, 401]


def test_a_visitor_is_not_remembered_for_long(platform, ana, monkeypatch):
    monkeypatch.setattr("axons.app.visitors._REMEMBER_S", 0)
    browser, asked = signed_in(platform, ana), lookups(monkeypatch)
    statuses = [browser.get("/api/v1/projects").status_code for _ in range(3)]
    assert (statuses, len(asked)) == ([200] * 3, 3)
