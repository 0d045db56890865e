"""Signing in at the school's own provider, over real HTTP."""

from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc.jwk import RSAKey
from pydantic import SecretStr
from sqlmodel import select

from axons.app.platform import Platform
from axons.app.tables import User
from tests.app.browser import give_password, open_browser
from tests.app.conftest import add_user
from tests.app.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, running_provider
from tests.conftest import free_port

START, CALLBACK = "/api/v1/auth/oidc/start", "/api/v1/auth/oidc/callback"


@pytest.fixture(scope="module")
def _provider():
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider(_provider) -> Provider:
    _provider.claims = {}
    _provider.key = _provider.published
    return _provider


@pytest.fixture
def school(platform, provider) -> Platform:
    """The platform of a school with this provider."""
    return configured(platform, provider.issuer)


def configured(platform, issuer: str) -> Platform:
    settings = platform.settings.model_copy(
        update={
            "oidc_issuer": issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": SecretStr(CLIENT_SECRET),
            "secret": SecretStr("the secret of this installation"),
        }
    )
    return Platform(settings=settings, database=platform.database, storage=platform.storage)


def go(browser, target: str = "/"):
    """From our page to the provider and back, as a browser goes."""
    there = browser.get(START, params={"next": target})
    assert there.status_code == 302, there.text
    back = urlsplit(httpx2.get(there.headers["location"], follow_redirects=False).headers["location"])
    assert back.path == CALLBACK
    return browser.get(f"{back.path}?{back.query}")


def accounts(platform) -> list[User]:
    return platform.database.read(lambda session: session.exec(select(User)).all())


def test_somebody_the_provider_vouches_for_becomes_a_student(school):
    browser = open_browser(school)
    answer = go(browser, "/?p=7")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?p=7")
    me = browser.get("/api/v1/auth/me").json()
    assert (me["user"]["name"], me["user"]["display_name"], me["user"]["role"]) == ("maria", "María José", "student")


def test_the_same_person_gets_the_same_account(school):
    go(open_browser(school))
    go(open_browser(school))
    assert len(accounts(school)) == 1


def test_an_account_of_the_same_name_is_not_taken_over(school):
    add_user(school, "Maria", "administrator")
    browser = open_browser(school)
    go(browser)
    me = browser.get("/api/v1/auth/me").json()["user"]
    assert me["name"].startswith("maria-")
    assert me["role"] == "student"


def test_the_provider_gives_no_role(school, provider):
    provider.claims = {"role": "administrator", "roles": ["administrator"], "groups": ["administrator"]}
    go(open_browser(school))
    assert accounts(school)[0].role == "student"


def test_a_strange_name_becomes_one_of_ours(school, provider):
    provider.claims = {"preferred_username": '=HYPERLINK("x")<b>@school.example', "name": "a\u0000\u202eb\n"}
    go(open_browser(school))
    assert (accounts(school)[0].name, accounts(school)[0].display_name) == ("HYPERLINKxb", "ab")


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"aud": "another-application"},
        {"aud": ["another-application", "third"], "azp": CLIENT_ID},
        {"nonce": "another"},
        {"exp": 1_000_000_000},
        {"iat": 99_999_999_999},
    ],
)
def test_a_token_that_is_not_the_answer_to_our_question_is_refused(school, provider, claims):
    provider.claims = claims
    browser = open_browser(school)
    assert go(browser).status_code == 401
    assert browser.get("/api/v1/auth/me").status_code == 401
    assert accounts(school) == []


def test_a_token_signed_by_another_key_is_refused(school, provider):
    provider.key = RSAKey.generate_key(2048, parameters={"kid": "1", "alg": "RS256"})
    assert go(open_browser(school)).status_code == 401


def test_an_answer_in_another_browser_is_refused(school):
    there = open_browser(school).get(START)
    back = urlsplit(httpx2.get(there.headers["location"], follow_redirects=False).headers["location"])
    assert open_browser(school).get(f"{back.path}?{back.query}").status_code == 401


def test_an_answer_counts_once(school):
    browser = open_browser(school)
    there = browser.get(START)
    back = urlsplit(httpx2.get(there.headers["location"], follow_redirects=False).headers["location"])
    first = browser.get(f"{back.path}?{back.query}")
    assert first.status_code == 303
    assert browser.get(f"{back.path}?{back.query}").status_code == 401


@pytest.mark.parametrize("query", ["", "?code=x", "?code=x&state=y", "?error=access_denied&state=y"])
def test_an_answer_without_a_question_is_refused(school, query):
    assert open_browser(school).get(CALLBACK + query).status_code == 401


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nSet-Cookie: x"],
)
def test_one_comes_back_to_this_server_only(school, target):
    assert go(open_browser(school), target).headers["location"] == "/"


def test_a_disabled_account_stays_out(school):
    go(open_browser(school))
    school.database.write(lambda session: setattr(session.exec(select(User)).one(), "is_active", False))
    assert go(open_browser(school)).status_code == 401


def test_the_handshake_asks_with_state_nonce_and_a_challenge(school):
    asked = parse_qs(urlsplit(open_browser(school).get(START).headers["location"]).query)
    assert asked.keys() >= {"state", "nonce", "code_challenge", "redirect_uri"}
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["scope"] == ["openid profile"]


def test_an_account_of_the_school_has_no_password_to_guess(school):
    go(open_browser(school))
    answer = open_browser(school).post("/api/v1/auth/login", json={"name": "maria", "password": "x"})
    assert answer.status_code == 401


def test_a_provider_that_does_not_answer_is_named(platform):
    school = configured(platform, f"http://127.0.0.1:{free_port()}")
    answer = open_browser(school).get(START)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "does not answer" in answer.json()["detail"]


def test_without_a_provider_there_is_only_the_password(platform, ana):
    give_password(platform, ana)
    assert open_browser(platform).get("/api/v1/auth/methods").json() == {"password": True, "oidc": False}
    assert open_browser(platform).get(START).status_code == 404
