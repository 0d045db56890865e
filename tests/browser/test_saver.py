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
            isSaved, states: page.states, revision: page.labels.revision,
            drafts: await page.drafts(), counts: countsOf(server.revisions[0]), text: page.saver.state.text,
            save: server.saves[0].isGzipped, source: server.revisions[0].source,
        };
    """)
    assert result.pop("text").startswith("Saved ")
    assert result == {
        "isSaved": True,
        "states": ["saved", "unsaved", "saving", "saved"],
        "revision": 1,
        "drafts": [],
        "counts": {"1": 16, "255": 32 * 32 - 16},
        "save": True,
        "source": "manual",
    }


def test_labels_are_saved_once_a_moment_after_the_last_step(play_fast):
    result = play_fast("""
        const page = await openPage(server);
        draw(page, 0, 0, 1);
        await pass(1000);
        draw(page, 8, 0, 1);
        await pass(1400);
        const early = server.saves.length;
        await pass(200);
        await page.saver.saveNow();
        await pass(20000);
        return [early, server.saves.length, countsOf(server.revisions[0])["1"]];
    """)
    assert result == [0, 1, 32]


def test_who_never_stops_drawing_is_saved_all_the_same(play_fast):
    saves = play_fast("""
        const page = await openPage(server);
        for (let i = 0; i < 25; i += 1) {
            draw(page, i, i, 1 + i % 2);
            await pass(1000);
        }
        return server.saves.length;
    """)
    assert saves == 2


def test_nothing_is_sent_when_a_step_was_undone(play):
    result = play("""
        const page = await openPage(server);
        draw(page, 0, 0, 1);
        page.labels.undo();
        page.saver.committed();
        const isSaved = await page.saver.saveNow();
        for (let trial = 0; trial < 100 && (await page.drafts()).length; trial += 1) await pause(30);
        return [isSaved, server.saves.length, page.saver.state.name, await page.drafts()];
    """)
    assert result == [True, 0, "saved", []]


def test_one_request_is_on_its_way_and_newer_steps_go_in_the_next(play):
    result = play("""
        const page = await openPage(server);
        let release;
        server.answers = [new Promise((resolve) => { release = () => resolve("ok"); })];
        draw(page, 0, 0, 1);
        const first = page.saver.saveNow();
        await until(() => server.saves.length === 1);
        draw(page, 8, 0, 2);
        const second = page.saver.saveNow();
        await pause(50);
        const atOnce = server.saves.length;
        release();
        await Promise.all([first, second]);
        return [atOnce, server.saves.map((save) => save.revision), server.revisions.map(countsOf)];
    """)
    assert result == [1, [0, 1], [{"1": 16, "255": 1008}, {"1": 16, "2": 16, "255": 992}]]


def test_a_save_whose_answer_was_lost_is_repeated_as_it_was(play):
    result = play("""
        const page = await openPage(server);
        server.answers = ["lost"];
        draw(page, 0, 0, 1);
        const isSaved = page.saver.saveNow();
        await until(() => page.saver.state.name === "offline");
        draw(page, 8, 0, 2);
        window.dispatchEvent(new Event("online"));
        await until(() => page.saver.state.name === "unsaved");
        await page.saver.saveNow();
        const [one, again, newer] = server.saves;
        return {
            isSaved: await isSaved, isSameId: one.saveId === again.saveId, isSameBody: one.text === again.text,
            isOtherId: newer.saveId !== one.saveId, revisions: server.revisions.map(countsOf),
        };
    """)
    assert result == {
        "isSaved": False,
        "isSameId": True,
        "isSameBody": True,
        "isOtherId": True,
        "revisions": [{"1": 16, "255": 1008}, {"1": 16, "2": 16, "255": 992}],
    }


def test_tries_are_further_and_further_apart_and_end_as_soon_as_the_network_is_back(play_fast):
    result = play_fast("""
        const page = await openPage(server);
        server.answers = Array(9).fill("offline");
        draw(page, 0, 0, 1);
        const times = [];
        for (let i = 0; i < 8; i += 1) {
            await pass(i === 0 ? 1500 : Math.min(1000 * 2 ** (i - 1), 30000) - 1);
            const early = server.saves.length;
            await pass(i === 0 ? 0 : 1);
            for (let k = 0; k < 20; k += 1) await pass(0);
            times.push([early, server.saves.length]);
        }
        window.dispatchEvent(new Event("online"));
        for (let k = 0; k < 20; k += 1) await pass(0);
        const tries = server.saves.length;
        window.dispatchEvent(new Event("online"));
        for (let k = 0; k < 20; k += 1) await pass(0);
        return [times.slice(1), tries, page.saver.state.name, new Set(server.saves.map((save) => save.saveId)).size];
    """)
    assert result == [[[n, n + 1] for n in range(1, 8)], 9, "saved", 1]


def test_a_server_that_asks_for_patience_gets_it(play_fast):
    result = play_fast("""
        const page = await openPage(server);
        server.answers = [{ status: 503, retryAfter: 5, detail: "the database is busy" }];
        draw(page, 0, 0, 1);
        page.saver.saveNow();
        for (let k = 0; k < 20; k += 1) await pass(0);
        const { name, text } = page.saver.state;
        await pass(4900);
        const early = server.saves.length;
        await pass(200);
        for (let k = 0; k < 20; k += 1) await pass(0);
        return [name, text, early, server.saves.length, page.saver.state.name];
    """)
    assert result == ["offline", "Not saved – the database is busy", 1, 2, "saved"]


def test_what_the_server_refuses_is_not_sent_again_until_something_changes(play_fast):
    result = play_fast("""
        const page = await openPage(server);
        server.answers = [{ status: 422, detail: "annotation renders to another checksum" }];
        draw(page, 0, 0, 1);
        const isSaved = await page.saver.saveNow();
        const { name, text } = page.saver.state;
        await pass(60000);
        const tries = server.saves.length;
        const drafts = (await page.drafts()).length;
        draw(page, 8, 0, 1);
        await pass(1500);
        for (let k = 0; k < 20; k += 1) await pass(0);
        return [isSaved, name, text, tries, drafts, server.revisions.length, page.saver.state.name];
    """)
    refused = "Not saved – annotation renders to another checksum"
    assert result == [False, "refused", refused, 1, 1, 1, "saved"]


def test_a_save_goes_on_as_it_was_after_the_sign_in(play):
    result = play("""
        const page = await openPage(server, { answer: { signIn: async () => true } });
        server.answers = [401];
        draw(page, 0, 0, 1);
        const isSaved = await page.saver.saveNow();
        return [isSaved, page.states, page.asked.length, server.saves[0].saveId === server.saves[1].saveId];
    """)
    assert result == [True, ["saved", "unsaved", "saving", "signed-out", "saving", "saved"], 1, True]


def test_who_does_not_sign_in_now_is_asked_again_when_saving(play_fast):
    result = play_fast("""
        let isWilling = false;
        const page = await openPage(server, { answer: { signIn: async () => isWilling } });
        server.answers = [401, 401];
        draw(page, 0, 0, 1);
        const first = await page.saver.saveNow();
        draw(page, 8, 0, 1);
        await pass(20000);
        const asked = page.asked.length;
        isWilling = true;
        const second = page.saver.saveNow();
        const third = await second && await page.saver.saveNow();
        return [first, asked, third, page.asked.length, countsOf(server.revisions.at(-1))["1"]];
    """)
    assert result == [False, 1, True, 2, 32]


def test_nothing_is_sent_under_the_name_of_another_person(play):
    result = play("""
        const page = await openPage(server, { answer: { signIn: async () => { server.me = "u2"; return true; } } });
        server.answers = [401];
        draw(page, 0, 0, 1);
        const isSaved = await page.saver.saveNow();
        draw(page, 8, 0, 1);
        await pause(50);
        const [draft] = await page.drafts();
        return [isSaved, server.revisions.length, server.saves.length, page.asked.map(([name]) => name),
            draft.json.counts["1"], page.saver.state.text];
    """)
    text = "Not saved – u2 is signed in now"
    assert result == [False, 0, 1, ["signIn", "otherPerson"], 32, text]


def test_seconds_of_a_save_that_came_to_nothing_count_in_the_next(play):
    result = play("""
        const page = await openPage(server);
        server.answers = [422];
        page.seconds = 7;
        draw(page, 0, 0, 1);
        await page.saver.saveNow();
        page.seconds += 2;
        draw(page, 8, 0, 1);
        await page.saver.saveNow();
        return server.saves.map((save) => save.seconds);
    """)
    assert result == [7, 9]


def test_a_tile_that_is_done_meanwhile_can_be_reopened(play):
    result = play("""
        const page = await openPage(server, { answer: { locked: "reopen" } });
        server.status = "done";
        draw(page, 0, 0, 1);
        const isSaved = await page.saver.saveNow();
        return [isSaved, page.states, server.saves[0].saveId === server.saves[1].saveId, server.revisions.length];
    """)
    assert result == [True, ["saved", "unsaved", "saving", "locked", "saving", "saved"], True, 1]


def test_on_a_tile_that_is_done_meanwhile_changes_can_be_discarded(play):
    result = play("""
        const page = await openPage(server, { answer: { locked: "discard" } });
        server.status = "done";
        server.change((other) => other.paintOnce(square(20, 20), 3));
        draw(page, 0, 0, 1);
        const isSaved = await page.saver.saveNow();
        await pause(30);
        return [isSaved, page.labels.toDocument().counts, page.labels.revision, await page.drafts()];
    """)
    assert result == [True, {"3": 16, "255": 1008}, 1, []]


def test_who_may_label_no_more_keeps_the_draft(play):
    result = play("""
        const page = await openPage(server);
        server.answers = [{ status: 403, detail: "viewers do not label" }];
        draw(page, 0, 0, 1);
        const isSaved = await page.saver.saveNow();
        return [isSaved, page.saver.state.name, (await page.drafts()).length];
    """)
    assert result == [False, "gone", 1]


def test_labels_of_two_people_are_merged(play):
    result = play("""
        const page = await openPage(server);
        server.change((other) => other.paintOnce(square(20, 20), 2));
        draw(page, 0, 0, 1);
        const isSaved = await page.saver.saveNow();
        const { source } = server.revisions[1];
        return [isSaved, server.saves.map((save) => save.revision), source, countsOf(server.revisions[1]), page.merged];
    """)
    assert result == [True, [0, 1], "merge", {"1": 16, "2": 16, "255": 992}, ["merged with Ben's labels"]]


def test_steps_made_while_labels_are_merged_stay(play):
    result = play("""
        const page = await openPage(server);
        server.change((other) => other.paintOnce(square(20, 20), 2));
        const { listRevisions } = server.api;
        server.api.listRevisions = async () => {
            draw(page, 10, 10, 3);
            page.labels.begin();
            page.labels.paint(square(15, 15), 3);
            setTimeout(() => { page.labels.commit(); page.saver.committed(); }, 120);
            return listRevisions();
        };
        draw(page, 0, 0, 1);
        await page.saver.saveNow();
        await page.saver.saveNow();
        return countsOf(server.revisions.at(-1));
    """)
    assert result == {"1": 16, "2": 16, "3": 32, "255": 960}


def test_a_lost_save_of_my_own_is_no_conflict_with_myself(play):
    result = play("""
        Object.defineProperty(navigator, "onLine", { value: false, configurable: true });
        const page = await openPage(server, { answer: { conflict: null } });
        server.answers = ["lost"];
        draw(page, 0, 0, 1);
        await page.saver.saveNow();
        draw(page, 8, 0, 1);
        server.change((other) => other.paintOnce(square(20, 20), 2));
        window.dispatchEvent(new Event("online"));
        await until(() => page.saver.state.name === "saved");
        return [server.saves.length, page.asked, server.revisions.map(countsOf).at(-1)];
    """)
    assert result == [3, [], {"1": 32, "2": 16, "255": 976}]


CONFLICT = """
    server.change((other) => other.paintOnce(square(0, 0), 1), { by: "u1" });
    const page = await openPage(server, { answer: { conflict: (model) => {
        const [{ id, rect }] = model.conflicts;
        page.model = [model.names, model.conflicts.length, rect, model.planes.mine.length];
        return CHOICE;
    } } });
    const edit = (value) => (labels) => labels.changeLayers(labels.layers.map((layer) =>
        ({ ...layer, values: new Uint8Array(16).fill(value) })));
    server.change(edit(2));
    edit(3)(page.labels);
    page.saver.committed();
    const isSaved = await page.saver.saveNow();
    const saved = server.revisions.slice(2).map(({ author_name: by, source, json }) => [by, source, json.counts]);
    return [isSaved, saved, page.model, server.revisions.at(-1).json.layers.length];
"""
MODEL = [["Ben"], 1, {"row0": 0, "col0": 0, "row1": 12, "col1": 12}, 1024]


def test_in_a_conflict_theirs_can_be_kept_and_mine_is_in_the_history(play):
    result = play(CONFLICT.replace("CHOICE", "{ [id]: 'theirs' }"))
    mine, theirs = {"3": 16, "255": 1008}, {"2": 16, "255": 1008}
    assert result == [True, [["Ana", "manual", mine], ["Ana", "merge", theirs]], MODEL, 1]


def test_in_a_conflict_mine_can_be_kept(play):
    result = play(CONFLICT.replace("CHOICE", "{ [id]: 'mine' }"))
    assert result == [True, [["Ana", "merge", {"3": 16, "255": 1008}]], MODEL, 1]


def test_in_a_conflict_mine_can_become_a_new_layer(play):
    result = play(CONFLICT.replace("CHOICE", "{ [id]: 'both' }"))
    assert result == [True, [["Ana", "merge", {"3": 16, "255": 1008}]], MODEL, 2]


def test_a_conflict_can_wait(play):
    result = play(CONFLICT.replace("CHOICE", "null"))
    assert result == [False, [], MODEL, 1]


def test_a_server_that_was_set_back_to_a_backup_takes_nothing_away(play):
    result = play("""
        const page = await openPage(server);
        draw(page, 0, 0, 1);
        await page.saver.saveNow();
        draw(page, 8, 0, 2);
        await page.saver.saveNow();
        server.revisions = [];
        draw(page, 16, 0, 3);
        await page.saver.saveNow();
        return countsOf(server.revisions.at(-1));
    """)
    assert result == {"1": 16, "2": 16, "3": 16, "255": 976}


CRASH = """
    const before = await openPage(server);
    server.answers = ANSWERS;
    draw(before, 0, 0, 1);
    before.saver.saveNow();
    await until(() => before.saver.state.name === "offline");
    draw(before, 8, 0, 1);
    before.saver.close();
    await pause(50);
"""


def test_a_draft_is_offered_and_restored(play):
    result = play(f"""
        {CRASH.replace("ANSWERS", '["offline"]')}
        const page = await openPage(server, {{ answer: {{ draft: "restore" }} }});
        await page.saver.saveNow();
        await pause(50);
        const [[name, {{ at, isBehind }}]] = page.asked;
        const isNow = Math.abs(Date.now() - at) < 5000;
        return [name, isNow, isBehind, countsOf(server.revisions[0])["1"], await page.drafts()];
    """)
    assert result == ["draft", True, False, 32, []]


def test_a_draft_can_be_discarded_or_wait(play):
    result = play(f"""
        {CRASH.replace("ANSWERS", '["offline"]')}
        const later = await openPage(server);
        const kept = (await later.drafts()).length;
        const page = await openPage(server, {{ answer: {{ draft: "discard" }} }});
        return [kept, server.revisions.length, await page.drafts(), page.labels.layers.length, page.saver.state.name];
    """)
    assert result == [1, 0, [], 0, "saved"]


def test_a_draft_that_the_server_has_is_forgotten(play):
    result = play("""
        const before = await openPage(server);
        server.answers = ["lost"];
        draw(before, 0, 0, 1);
        before.saver.saveNow();
        await until(() => before.saver.state.name === "offline");
        before.saver.close();
        await pause(50);
        const kept = (await before.drafts()).length;
        server.change((other) => other.paintOnce(square(20, 20), 2));
        const page = await openPage(server);
        return [kept, page.asked, await page.drafts()];
    """)
    assert result == [1, [], []]


def test_a_draft_from_before_somebody_has_saved_is_merged(play):
    result = play(f"""
        {CRASH.replace("ANSWERS", '["lost"]')}
        server.change((other) => other.paintOnce(square(20, 20), 2));
        const page = await openPage(server, {{ answer: {{ draft: "restore", conflict: null }} }});
        await page.saver.saveNow();
        return [page.asked.map(([name]) => name), countsOf(server.revisions.at(-1)), page.merged];
    """)
    assert result == [["draft"], {"1": 32, "2": 16, "255": 976}, ["merged with Ben's labels"]]


def test_two_tabs_keep_a_draft_each(play):
    result = play("""
        server.answers = ["offline", "offline"];
        const [one, other] = [await openPage(server), await openPage(server)];
        draw(one, 0, 0, 1);
        draw(other, 8, 0, 2);
        await pause(50);
        return (await one.drafts()).length;
    """)
    assert result == 2


def test_other_tabs_show_what_one_has_saved(play):
    result = play("""
        const [one, other] = [await openPage(server), await openPage(server)];
        draw(one, 0, 0, 1);
        await one.saver.saveNow();
        await until(() => other.labels.revision === 1);
        return [other.labels.toDocument().counts, other.saver.state.name, server.saves.length];
    """)
    assert result == [{"1": 16, "255": 1008}, "saved", 1]


def test_without_indexeddb_everything_else_works(play):
    result = play("""
        Object.defineProperty(window, "indexedDB", { get() { throw new Error("denied"); } });
        const page = await openPage(server, { drafts: createDrafts() });
        draw(page, 0, 0, 1);
        await pause(20);
        const kept = (await page.drafts()).length;
        await page.saver.saveNow();
        await pause(20);
        return [kept, (await page.drafts()).length, server.revisions.length];
    """)
    assert result == [1, 0, 1]


def test_drafts_are_those_of_one_person_and_tile_the_newest_first(play):
    result = play("""
        const drafts = createDrafts();
        const one = { tileId: "t", userId: "u", at: 1 };
        await Promise.all([
            drafts.put({ ...one, session: "a" }), drafts.put({ ...one, session: "b", at: 3 }),
            drafts.put({ ...one, session: "a", at: 2 }), drafts.put({ ...one, session: "c", userId: "v" }),
            drafts.put({ ...one, session: "d", tileId: "tt" }),
        ]);
        const before = await drafts.list("t", "u");
        await drafts.remove(before[0]);
        return [before.map(({ at }) => at), (await drafts.list("t", "u")).map(({ session }) => session)];
    """)
    assert result == [[3, 2], ["a"]]


def test_time_counts_while_somebody_works(play_fast):
    seconds = play_fast("""
        const { createActivity } = await import("/static/annotator/activity.js");
        const activity = createActivity();
        const move = () => window.dispatchEvent(new Event("pointermove"));
        move();
        await pass(4000);
        move();
        await pass(3600000);
        move();
        const first = activity.take();
        await pass(2000);
        move();
        activity.giveBack(1);
        const second = activity.take();
        activity.close();
        await pass(2000);
        move();
        return [first, second, activity.take()];
    """)
    assert seconds == [14, 3, 0]


def test_a_lease_is_renewed_until_it_is_given_back(play_fast):
    result = play_fast("""
        const { createLease } = await import("/static/annotator/lease.js");
        const asked = [];
        const api = {
            takeLease: async (tile, takesOver) => {
                asked.push(takesOver);
                return { is_mine: true, holder: "Ana", until: "2026-01-01T00:00:00Z" };
            },
            releaseLease: async () => { asked.push("released"); },
        };
        const told = [];
        const lease = createLease({ tileId: "t", api, onLease: (what) => told.push(what) });
        await pass(60000);
        const before = asked.length;
        await lease.take(true);
        await pass(60000);
        lease.close();
        await pass(60000);
        return [before, asked, told[0].isMine, told[0].until.getTime() > 0];
    """)
    assert result == [0, [True, False, False, "released"], True, True]


def test_imported_layers_without_an_id_are_called_the_same_in_every_page(play):
    ids = play("""
        const api = await import("/static/annotator/api.js");
        const json = JSON.stringify({ layers: [{ id: "" }, { id: "a" }, {}] });
        window.fetch = async () => new Response(json, { headers: { ETag: 'W/"3"' } });
        const { revision, json: { layers } } = await api.getAnnotation("t");
        return [revision, layers.map(({ id }) => id)];
    """)
    assert ids == [3, ["unnamed-0", "a", "unnamed-2"]]


def test_what_the_server_answers_is_told_apart(play):
    kinds = play("""
        const api = await import("/static/annotator/api.js");
        const ask = async (answer) => {
            window.fetch = async () => answer();
            const error = await api.getJson("/").catch((caught) => caught);
            return [error.constructor.name, error.status ?? null, error.retryAfter ?? null, error.message];
        };
        const problem = (status, title, headers) => () =>
            new Response(JSON.stringify({ title, detail: "a sentence" }), { status, headers });
        return [
            await ask(problem(401, "sign-in-required")),
            await ask(problem(403, "password-change-required")),
            await ask(problem(403, "not-allowed")),
            await ask(problem(503, "database-busy", { "Retry-After": "5" })),
            await ask(() => new Response("<html>", { status: 502 })),
            await ask(() => new Response('{"cut')),
            await ask(() => { throw new TypeError("no network"); }),
        ];
    """)
    assert kinds == [
        ["AuthRequired", 401, None, "a sentence"],
        ["AuthRequired", 403, None, "a sentence"],
        ["ApiError", 403, None, "a sentence"],
        ["ApiError", 503, 5, "a sentence"],
        ["ApiError", 502, None, "the server answered 502"],
        ["Offline", None, None, "the answer was cut off"],
        ["Offline", None, None, "the server does not answer"],
    ]
