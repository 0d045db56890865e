"""A browser at the front door: cookies kept, `Origin` sent, redirects not followed."""

from starlette.testclient import TestClient

from axons.app import passwords
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.tables import User
from tests.app.serving import the_app

ADDRESS = "http://127.0.0.1:8000"
PASSWORD = "right horse battery"
PASSWORD_HASH = passwords.hash_password(PASSWORD)


def open_browser(platform: Platform, **headers: str) -> TestClient:
    return TestClient(
        the_app(platform),
        base_url=ADDRESS,
        headers={"origin": ADDRESS, **headers},
        raise_server_exceptions=False,
        follow_redirects=False,
    )


def give_password(platform: Platform, actor: Actor, password_hash: str = PASSWORD_HASH) -> None:
    def give(session) -> None:
        session.get_one(User, actor.user_id).password_hash = password_hash

    platform.database.write(give)


def sign_in(browser: TestClient, actor: Actor, password: str = PASSWORD):
    return browser.post("/api/v1/auth/login", json={"name": actor.name, "password": password})


def signed_in(platform: Platform, actor: Actor) -> TestClient:
    give_password(platform, actor)
    browser = open_browser(platform)
    assert sign_in(browser, actor).status_code == 200
    return browser
