"""Saving on the annotation page: what was drawn reaches the server, whatever happens on the way."""

import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from playwright.sync_api import Error, expect
from sqlmodel import select

from axons.app.tables import ProjectMember, Revision, SignIn, Tile, now
from tests.app.browser import PASSWORD
from tests.app.images import document_of
from tests.browser.annotating import click, drag, open_tile, state, wait_for, wait_for_save, wait_until_ready
from tests.browser.conftest import Pages, both_addresses
from tests.conftest import free_port, wait_for_port

# What browsers write on their console when a request fails.
FAILS = ["Failed to load resource"]


class OwnProcess:
    """The application on the data of `site` in a process of its own, which can be killed and started again."""

    def __init__(self, data):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "tests.browser.site_process", str(data), str(self.port)]
        self._process = None

    def start(self, *, waits=True):
        self._process = subprocess.Popen(self._command)
        if waits:
            self.wait()

    def wait(self):
        wait_for_port(self.port, timeout_s=120)

    def kill(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture
def process(site):
    process = OwnProcess(site.platform.settings.data)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def process_page(chromium, site, process, ana):
    """A page of Ana's on the process."""
    pages = Pages(chromium, process.url, replace(site, url=process.url).sign_in, allowed=FAILS)
    yield pages(ana)
    pages.close()
    assert pages.errors == []


@pytest.fixture
def tile(site, ana):
    return site.tile(ana)


@pytest.fixture
def shared_tile(site, ana, ben, tile):
    """A tile that Ben may label, too."""
    member = ProjectMember(project_id=tile.project_id, user_id=ben.user_id, role="editor")
    site.platform.database.write(lambda session: session.add(member))
    return tile


def saves_of(page):
    """The saves that a page asks for from now on."""
    saves = []
    page.on("request", lambda request: saves.append(request) if request.method == "PUT" else None)
    return saves


def block_saves(page):
    """As if the network lost each save; Playwright's routes do not see those of a page that goes away."""
    page.evaluate("""() => {
        const { fetch } = window;
        const isSave = ({ method }) => method === "PUT";
        window.fetch = (url, options) => (isSave(options) ? Promise.reject(new TypeError()) : fetch(url, options));
    }""")


def revisions(site, tile):
    asked = select(Revision).where(Revision.tile_id == tile.id).order_by(Revision.number)
    return site.platform.database.read(lambda session: list(session.exec(asked)))


def sign_out(site, actor):
    """End the sessions of a person, as their time does."""

    def end(session) -> None:
        for row in session.exec(select(SignIn).where(SignIn.user_id == actor.user_id)):
            row.revoked_at = now()

    site.platform.database.write(end)


@both_addresses
def test_a_stroke_is_saved_by_itself_and_nothing_without_a_change(site, ana, new_page, tile):
    page = new_page(ana)
    saves = saves_of(page)
    open_tile(page, tile)
    drag(page, (30, 30), (30, 90))
    expect(page.locator("#save")).to_have_text(re.compile("^Saved"), timeout=15_000)
    shown = state(page)
    assert (shown["rev"], shown["crc32"]) == (1, site.annotation(ana, tile)["crc32"])
    page.keyboard.press("Control+s")
    drag(page, (60, 30), (60, 90))
    page.keyboard.press("Control+z")
    page.wait_for_timeout(2500)
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    page.wait_for_timeout(300)
    assert (len(saves), site.annotation(ana, tile)["rev"], state(page)["save"]) == (1, 1, "saved")


def test_ctrl_s_saves_at_once(site, ana, new_page, tile):
    page = new_page(ana)
    open_tile(page, tile)
    drag(page, (30, 30), (30, 90))
    page.keyboard.press("Control+s")
    expect(page.locator("#save")).to_have_text(re.compile("^Saved"), timeout=15_000)


def test_labels_are_saved_when_the_page_goes_away(site, ana, new_page, tile):
    page = new_page(ana)
    open_tile(page, tile)
    drag(page, (30, 30), (30, 90))
    drawn = state(page)["crc32"]
    page.goto("/api/docs")
    page.wait_for_timeout(500)
    assert site.annotation(ana, tile)["crc32"] == drawn
    open_tile(page, tile)
    page.wait_for_timeout(300)
    assert page.get_by_role("dialog").count() == 0


def test_time_at_work_is_saved_with_the_labels(site, ana, new_page, tile):
    page = new_page(ana)
    open_tile(page, tile)
    page.mouse.move(300, 300)
    page.wait_for_timeout(1000)
    drag(page, (30, 30), (30, 90))
    page.keyboard.press("Control+s")
    wait_for_save(page)
    assert 1 <= revisions(site, tile)[0].seconds < 5


def test_a_draft_is_offered_after_a_reload_and_gives_back_the_same_labels(site, ana, new_page, tile):
    page = new_page(ana, allowed=FAILS)
    open_tile(page, tile)
    block_saves(page)
    drag(page, (30, 30), (30, 90))
    drag(page, (60, 30), (90, 60))
    drawn = state(page)["crc32"]
    wait_for_save(page, "offline")
    page.close()
    page = page.context.new_page()
    open_tile(page, tile)
    dialog = page.get_by_role("dialog", name="Labels that were not saved")
    expect(dialog).to_contain_text(str(datetime.now().year))
    dialog.get_by_role("button", name="Restore them").click()
    wait_for(page, lambda shown: shown["rev"] == 1)
    assert (state(page)["crc32"], state(page)["rev"]) == (drawn, 1)
    assert site.annotation(ana, tile)["crc32"] == drawn
    page.reload()
    wait_until_ready(page)
    page.wait_for_timeout(300)
    assert page.get_by_role("dialog").count() == 0


def test_what_was_drawn_survives_a_crash_of_the_page(site, ana, new_page, tile):
    page = new_page(ana, allowed=FAILS)
    open_tile(page, tile)
    drag(page, (30, 30), (30, 90))
    drawn = state(page)["crc32"]
    page.wait_for_timeout(200)
    with pytest.raises(Error, match="crash|closed"):
        page.goto("chrome://crash")
    page = page.context.new_page()
    open_tile(page, tile)
    page.get_by_role("button", name="Restore them").click()
    wait_for(page, lambda shown: shown["rev"] == 1)
    assert site.annotation(ana, tile)["crc32"] == drawn


def test_a_draft_can_be_discarded(site, ana, new_page, tile):
    page = new_page(ana, allowed=FAILS)
    open_tile(page, tile)
    block_saves(page)
    drag(page, (30, 30), (30, 90))
    wait_for_save(page, "offline")
    page.reload()
    page.get_by_role("button", name="Discard them").click()
    page.reload()
    wait_until_ready(page)
    page.wait_for_timeout(300)
    assert page.get_by_role("dialog").count() == 0
    assert state(page)["counts"] == {"255": tile.height * tile.width}


@both_addresses
def test_strokes_drawn_offline_are_saved_once_the_network_is_back(site, ana, new_page, tile):
    page = new_page(ana, allowed=FAILS)
    open_tile(page, tile)
    page.context.set_offline(True)
    for number, row in enumerate((20, 60, 100)):
        page.keyboard.press(str(number + 1))
        drag(page, (row, 30), (row, 90))
        page.wait_for_timeout(1000)
    expect(page.locator("#save")).to_have_text(re.compile("^Not saved – offline"))
    drawn = state(page)["counts"]
    page.context.set_offline(False)
    wait_for_save(page)
    assert [row.counts for row in revisions(site, tile)] == [drawn]
    assert set(drawn) == {"1", "2", "3", "255"}


def test_who_comes_second_is_told_and_both_peoples_labels_are_merged(site, ana, ben, new_page, shared_tile):
    tile = shared_tile
    first = new_page(ana)
    open_tile(first, tile)
    wait_for(first, lambda shown: shown["lease"] and shown["lease"]["isMine"])
    second = new_page(ben, allowed=FAILS)
    open_tile(second, tile)
    notice = second.get_by_text("ana is labelling this tile.")
    expect(notice).to_be_visible()
    second.get_by_role("button", name="Work anyway").click()
    wait_for(second, lambda shown: shown["lease"] and shown["lease"]["isMine"])
    drag(first, (20, 20), (20, 90))
    wait_for_save(first)
    second.keyboard.press("2")
    drag(second, (80, 20), (80, 90))
    wait_for_save(second)
    expect(second.locator("#said")).to_have_text("Merged with ana's labels.")
    kept = revisions(site, tile)
    assert [row.source for row in kept] == ["manual", "merge"]
    assert [set(row.counts) for row in kept] == [{"1", "255"}, {"1", "2", "255"}]
    assert kept[1].crc32 == state(second)["crc32"]


def draw_polygon(page, *points):
    page.keyboard.press("p")
    for point in points:
        click(page, *point)
    page.keyboard.press("Enter")


@pytest.mark.parametrize(
    ("choice", "num_layers", "sources"),
    [
        ("Keep both: mine as a new layer on top", 2, ["manual", "manual", "merge"]),
        ("Keep mine", 1, ["manual", "manual", "merge"]),
        ("Keep ana's", 1, ["manual", "manual", "manual", "merge"]),
    ],
)
def test_who_has_changed_the_same_polygon_is_asked(site, ana, ben, new_page, shared_tile, choice, num_layers, sources):
    tile = shared_tile
    first = new_page(ana)
    open_tile(first, tile)
    draw_polygon(first, (30, 30), (30, 80), (80, 80), (80, 30))
    first.keyboard.press("Control+s")
    wait_for_save(first)
    second = new_page(ben, allowed=FAILS)
    open_tile(second, tile)
    for page, value in ((first, "2"), (second, "3")):
        page.keyboard.press("v")
        click(page, 50, 50)
        page.keyboard.press(value)
    first.keyboard.press("Control+s")
    wait_for_save(first)
    second.keyboard.press("Control+s")
    dialog = second.get_by_role("dialog", name="You both changed the same labels")
    dialog.get_by_label(choice).check()
    assert dialog.locator("canvas").count() == 2
    dialog.get_by_role("button", name="Keep these").click()
    wait_for_save(second)
    kept = revisions(site, tile)
    assert [row.source for row in kept] == sources
    assert {row.author_id for row in kept} == {ana.user_id, ben.user_id}
    assert len(site.annotation(ana, tile)["layers"]) == num_layers
    assert kept[-1].crc32 == state(second)["crc32"]
    second.locator("[data-action=showHistory]").click()
    expect(second.get_by_role("dialog")).to_contain_text("ana")
    expect(second.get_by_role("dialog")).to_contain_text("ben")


def test_an_earlier_revision_can_be_restored(site, ana, new_page, tile):
    page = new_page(ana)
    open_tile(page, tile)
    crcs = []
    for row in (30, 60):
        drag(page, (row, 30), (row, 90))
        page.keyboard.press("Control+s")
        wait_for_save(page)
        crcs.append(state(page)["crc32"])
    page.locator("[data-action=showHistory]").click()
    dialog = page.get_by_role("dialog", name="History")
    dialog.get_by_role("radio", name="1").check()
    dialog.get_by_role("button", name="Restore").click()
    wait_for(page, lambda shown: shown["rev"] == 3)
    assert state(page)["crc32"] == crcs[0]
    assert [row.crc32 for row in revisions(site, tile)] == [*crcs, crcs[0]]


def test_the_server_refuses_saves_that_do_not_fit_and_changes_nothing(site, ana, tile):
    plane = np.full((tile.height, tile.width), 255, np.uint8)
    plane[:9] = 1
    site.save(ana, tile, plane)
    before = site.annotation(ana, tile)
    rest, document = site.rest(ana), document_of(plane)

    def put(headers, json=document):
        answer = rest.put(f"tiles/{tile.id}/annotation", params={"save_id": "new"}, headers=headers, json=json)
        return answer.status_code

    current = {"if-match": '"1"'}
    refused = [put({}), put({"if-match": '"0"'}), put(current, document | {"crc32": 1})]
    rest.post(f"tiles/{tile.id}/done")
    assert [*refused, put(current)] == [428, 412, 422, 423]
    assert site.annotation(ana, tile) == before
    assert len(revisions(site, tile)) == 1


def test_two_tabs_of_one_person_show_and_keep_the_same(site, ana, new_page, tile):
    one = new_page(ana, allowed=FAILS)
    other = one.context.new_page()
    for page in (one, other):
        open_tile(page, tile)
    drag(one, (20, 20), (20, 90))
    one.keyboard.press("Control+s")
    wait_for_save(one)
    wait_for(other, lambda shown: shown["rev"] == 1)
    assert state(other)["crc32"] == state(one)["crc32"]
    other.keyboard.press("2")
    drag(other, (60, 20), (60, 90))
    drag(one, (100, 20), (100, 90))
    for page in (one, other):
        page.keyboard.press("Control+s")
        wait_for_save(page)
    wait_for(one, lambda shown: shown["rev"] == 3)
    assert set(site.annotation(ana, tile)["counts"]) == {"1", "2", "255"}
    assert state(one)["crc32"] == state(other)["crc32"] == site.annotation(ana, tile)["crc32"]


def test_who_is_signed_out_at_work_signs_in_in_place_and_loses_nothing(site, ana, new_page, tile):
    page = new_page(ana, allowed=FAILS)
    saves = saves_of(page)
    open_tile(page, tile)
    drag(page, (20, 20), (20, 90))
    page.keyboard.press("Control+s")
    wait_for_save(page)
    sign_out(site, ana)
    drag(page, (60, 20), (60, 90))
    drawn = state(page)["crc32"]
    dialog = page.get_by_role("dialog", name="Sign in again")
    expect(dialog.get_by_label("Name")).to_have_value("ana")
    dialog.get_by_label("Password").fill("wrong")
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog.get_by_role("status")).not_to_be_empty()
    dialog.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    wait_for_save(page)
    assert site.annotation(ana, tile)["crc32"] == state(page)["crc32"] == drawn
    ids = [re.search("save_id=([^&]+)", request.url)[1] for request in saves]
    assert len(ids) == 3 and ids[0] != ids[1] == ids[2]


def test_who_has_signed_in_in_another_window_tries_again(site, ana, new_page, tile):
    page = new_page(ana, allowed=FAILS)
    open_tile(page, tile)
    sign_out(site, ana)
    drag(page, (60, 20), (60, 90))
    dialog = page.get_by_role("dialog", name="Sign in again")
    dialog.get_by_role("button", name="Not now").click()
    drag(page, (90, 20), (90, 90))
    expect(page.locator("#save")).to_have_text("Not saved – you are signed out")
    page.locator("#save").click()
    site.sign_in(page.context, ana)
    dialog.get_by_role("button", name="Try again").click()
    wait_for_save(page)
    assert site.annotation(ana, tile)["crc32"] == state(page)["crc32"]


def test_nothing_is_saved_in_the_name_of_somebody_else(site, ana, ben, new_page, shared_tile):
    tile = shared_tile
    page = new_page(ana, allowed=FAILS)
    open_tile(page, tile)
    sign_out(site, ana)
    drag(page, (60, 20), (60, 90))
    drawn = state(page)["crc32"]
    dialog = page.get_by_role("dialog", name="Sign in again")
    dialog.get_by_label("Name").fill("ben")
    dialog.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="ben is signed in now").get_by_role("button").click()
    wait_until_ready(page)
    page.wait_for_timeout(300)
    assert page.get_by_role("dialog").count() == 0
    assert (revisions(site, tile), state(page)["counts"]) == ([], {"255": tile.height * tile.width})
    site.sign_in(page.context, ana)
    page.reload()
    page.get_by_role("button", name="Restore them").click()
    wait_for(page, lambda shown: shown["rev"] == 1)
    assert [(row.author_id, row.crc32) for row in revisions(site, tile)] == [(ana.user_id, drawn)]


def test_a_tile_that_somebody_has_marked_done_can_be_reopened(site, ana, new_page, tile):
    page = new_page(ana, allowed=FAILS)
    open_tile(page, tile)
    site.rest(ana).post(f"tiles/{tile.id}/done")
    drag(page, (20, 20), (20, 90))
    page.get_by_role("dialog", name="The tile is done").get_by_role("button", name="Reopen").click()
    wait_for_save(page)
    row = site.platform.database.read(lambda session: session.get_one(Tile, tile.id))
    assert (row.status, row.revision) == ("started", 1)


def test_the_lease_ends_with_the_page(site, ana, ben, new_page, shared_tile):
    page = new_page(ana)
    open_tile(page, shared_tile)
    wait_for(page, lambda shown: shown["lease"] and shown["lease"]["isMine"])
    page.goto("/api/docs")
    page.wait_for_timeout(300)
    assert site.rest(ben).get(f"tiles/{shared_tile.id}").json()["lease"]["holder"] is None


def test_nothing_is_lost_when_the_application_is_killed_while_somebody_draws(
    site, tile, process, process_page, record_property
):
    page = process_page
    answers = []
    page.on("response", lambda answer: answers.append(answer) if answer.request.method == "PUT" else None)
    open_tile(page, tile)
    rng = np.random.default_rng(6)

    def draw(num_strokes):
        for _ in range(num_strokes):
            page.keyboard.press(str(rng.integers(0, 4)))
            drag(page, *rng.integers(5, 123, (3, 2)).tolist())

    for _ in range(3):
        draw(3)
        page.keyboard.press("Control+s")
        page.wait_for_timeout(int(rng.integers(0, 60)))
        process.kill()
        draw(3)
        process.start(waits=False)
        draw(2)
        process.wait()
        wait_for_save(page)
    kept = {row.number: row.crc32 for row in revisions(site, tile)}
    acknowledged = {saved["revision"]: saved["crc32"] for saved in (answer.json() for answer in answers if answer.ok)}
    record_property("saves acknowledged", len(acknowledged))
    assert acknowledged.items() <= kept.items()
    assert list(kept) == list(range(1, len(kept) + 1))
    assert kept[len(kept)] == state(page)["crc32"]
    assert state(page)["undo"] == 24


@pytest.mark.slow
def test_the_page_goes_on_when_the_application_starts_again(site, ana, process, process_page):
    project = site.project(ana, classes=["background", "ring"], tile=64)
    first, second = site.tiles(site.image(ana, project, np.zeros((64, 128, 3), np.uint8)))
    page = process_page
    open_tile(page, first)
    page.keyboard.press("+")
    before = state(page)
    process.kill()
    drag(page, (20, 20), (20, 40))
    wait_for_save(page, "offline")
    process.start()
    wait_for_save(page)
    after = state(page)
    assert [after[key] for key in ("tile", "zoom", "offset")] == [before[key] for key in ("tile", "zoom", "offset")]
    assert site.annotation(ana, first)["crc32"] == after["crc32"]
    process.kill()
    page.keyboard.press(".")
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    process.start()
    again.click()
    wait_for(page, lambda shown: shown["ready"] and shown["tile"] == second.id)
