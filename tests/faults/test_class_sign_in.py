"""A whole class that signs in at the same moment from one address (R15); measured on a machine of its own."""

import time

import psutil
import pytest

from tests.app.browser import give_password, open_browser, sign_in
from tests.app.conftest import add_user
from tests.app.test_sign_in import run_beside_each_other

CLASS = 60
P95_S, GROWN_MB = 2.0, 200


@pytest.mark.long
def test_on_a_machine_of_its_own_sixty_sign_in_at_once_with_a_p95_of_two_seconds(platform, record_property):
    class_ = [add_user(platform, f"student-{number}") for number in range(CLASS)]
    [give_password(platform, student) for student in class_]
    browser = open_browser(platform)
    browser.get("/healthz")
    process, seconds = psutil.Process(), [0.0] * CLASS
    before = process.memory_info().rss

    def enter(number: int) -> int:
        began = time.monotonic()
        status = sign_in(browser, class_[number]).status_code
        seconds[number] = time.monotonic() - began
        return status

    with browser:  # one event loop for all, as a server has
        statuses = run_beside_each_other(CLASS, enter)
    p95 = sorted(seconds)[round(0.95 * CLASS) - 1]
    grown_mb = (process.memory_info().rss - before) / 1e6
    record_property("60 sign-ins at once", f"p95 {p95:.2f} s, {grown_mb:.0f} MB more")
    assert statuses == [200] * CLASS
    assert p95 <= P95_S
    assert grown_mb <= GROWN_MB
