"""The module that saves, with a real document and drafts, against a server in memory that fails as the test says."""

from pathlib import Path

import pytest

HARNESS = Path(__file__).with_name("saver_harness.js")


@pytest.fixture
def play(modules):
    """Runs the body of an asynchronous function that sees the harness and returns plain values."""
    modules.route(
        "**/saver_harness.js", lambda route: route.fulfill(path=HARNESS, content_type="text/javascript; charset=utf-8")
    )

    def play(body: str):
        return modules.evaluate(f"""async () => {{
            const {{ createServer, openPage, square, draw, countsOf, until }} = await import("/saver_harness.js");
            const {{ createDrafts }} = await import("/static/annotator/drafts.js");
            const server = createServer();
            const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
            {body}
        }}""")

    return play


@pytest.fixture
def play_fast(modules, play):
    """As `play`, in a time that passes only by `await pass(ms)`."""
    modules.clock.install(time=0)
    modules.clock.pause_at(1000)
    modules.expose_function("pass", modules.clock.run_for)
    return play


def test_a_step_is_saved_and_its_draft_removed(play):
    result = play("""
        const page = await openPage(server);
        draw(page, 2, 3, 1);
        await until(() => page.states.includes("unsaved"));
        const isSaved = await page.saver.saveNow();
        await pause(50);
        return {
            isSaved, states: page.states, revision: page.labels.revision, isDirty: page.labels.isDirty,
            drafts: await page.drafts(), counts: countsOf(server.revisions[0]), text: page.saver.state.text,
            save: server.saves[0].isGzipped, source: server.revisions[0].source,
        };
    """)
    assert result.pop("text").startswith("Saved ")
    assert result == {
        "isSaved": True,
        "states": ["unsaved", "saving", "saved"],
        "revision": 1,
        "isDirty": False,
        "drafts": [],
        "counts": {"1": 16, "255": 32 * 32 - 16},
        "save": True,
        "source": "manual",
    }
