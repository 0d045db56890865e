"""The screen for training: what one starts, watches, stops, and is told."""

import pytest
from playwright.sync_api import expect

from axons.app.tables import EpochMetric, Job, ProjectMember, Run, TrainingSet
from tests.app.trainings import add_project, add_training_set, epoch

HINTS = """async ([metrics, facts]) => {
  const {hints} = await import("/static/screens/hints.js");
  return hints(metrics, facts).map(({rule}) => rule);
}"""
FORM = """async (schema) => {
  const {schemaForm} = await import("/static/screens/schema-form.js");
  const form = schemaForm(schema);
  document.body.append(form.element);
  const before = form.values();
  for (const input of form.element.querySelectorAll("[name=crop], [name=layers]")) input.value = "64";
  form.element.querySelector("[name=kind]").value = "b";
  form.element.querySelector("[name=mirrored]").checked = true;
  const told = [form.complain("crop", "too large"), form.complain("other", "")];
  return [before, form.values(), ...told, form.element.innerText];
}"""
SCHEMA = {
    "properties": {
        "crop": {"anyOf": [{"type": "integer", "minimum": 32, "maximum": 128}, {"type": "null"}], "default": None},
        "layers": {"type": "number", "default": 3, "description": "A field of tomorrow."},
        "kind": {"enum": ["a", "b"], "default": "a", "title": "Kind"},
        "mirrored": {"type": "boolean", "default": False},
        "name": {"type": "string", "default": "x"},
    }
}


def metrics(count, **curves):
    """Epochs of one class whose numbers are those of functions of the epoch."""
    usual = {
        "train_loss": lambda n: 1.0,
        "val_loss": lambda n: 1.0,
        "val_iou": lambda n: [0.5],
        "data_wait_share": lambda n: 0,
    }
    functions = usual | curves
    rows = [{"epoch": n} | {name: value(n) for name, value in functions.items()} for n in range(1, count + 1)]
    return {"classes": ["axon"], "epochs": rows}


@pytest.mark.parametrize(
    ("found", "facts", "rules"),
    [
        (metrics(0), {}, []),
        (metrics(10), {"isOver": True, "numImages": {"train": 6, "val": 1}}, []),
        (metrics(10, val_loss=lambda n: abs(n - 4) + 1), {}, ["overfitting"]),
        (metrics(10, train_loss=lambda n: 1 / n, val_loss=lambda n: 2 / n), {"isOver": True}, ["train-longer"]),
        (metrics(10, train_loss=lambda n: 1 / n, val_loss=lambda n: 2 / n), {}, []),
        (metrics(8, val_iou=lambda n: [0.01]), {}, ["unseen-class"]),
        (metrics(8, val_iou=lambda n: [None]), {}, []),
        (metrics(2, data_wait_share=lambda n: 0.5), {}, ["waiting"]),
        (metrics(3, train_loss=lambda n: None if n > 1 else 1), {}, ["nan"]),
        (metrics(1), {"numImages": {"train": 1, "val": 0}}, ["few-images", "no-validation"]),
    ],
)
def test_hints_follow_from_the_numbers(modules, found, facts, rules):
    assert modules.evaluate(HINTS, [found, facts]) == rules


def test_a_form_is_made_from_any_schema_and_gives_what_differs_from_its_defaults(modules):
    before, values, is_ours, is_other, text = modules.evaluate(FORM, SCHEMA)
    assert before == {}
    assert values == {"crop": 64, "layers": 64, "kind": "b", "mirrored": True}
    assert (is_ours, is_other) == (True, False)
    assert "A field of tomorrow." in text
    assert "too large" in text


@pytest.fixture
def project(site, ana, tmp_path):
    project = add_project(site.platform, ana)
    add_training_set(site.platform, project, tmp_path)
    return project


@pytest.fixture
def start(site, ana, project):
    """Start a training over REST; returns the run's id."""

    def start(**config):
        (row,) = site.rest(ana).get(f"projects/{project.id}/training-sets").json()["items"]
        form = {"training_set_id": row["id"], "config": config}
        answer = site.rest(ana).post("runs", json=form, headers={"idempotency-key": "a" * 24})
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    return start


def become(site, run_id, state, *, epochs=0, **fields):
    """Let a run be in a state, as if it had learnt so many epochs."""

    def write(session):
        run = session.get_one(Run, run_id)
        job = session.get_one(Job, run.job_id)
        job.state = state
        for name, value in fields.items():
            setattr(job, name, value)
        run.status = {"state": state, "epoch": epochs, "seconds_left": 120.0, "device": "CPU, 2 threads"}
        for number in range(1, epochs + 1):
            session.add(EpochMetric(run_id=run_id, epoch=number, metrics=epoch(number).model_dump(mode="json")))

    site.platform.database.write(write)


def test_without_a_training_set_the_next_step_is_to_make_one(site, ana, new_page):
    page = new_page(ana)
    page.goto(f"/train?project={site.project(ana).id}")
    expect(page.get_by_text("There is no frozen training set yet.")).to_be_visible()
    expect(page.get_by_role("link", name="Make a training set")).to_be_visible()
    expect(page.get_by_role("button", name="Start training")).to_have_count(0)


def test_who_comes_before_the_set_is_frozen_can_train_as_soon_as_it_is(site, ana, new_page, tmp_path):
    project = add_project(site.platform, ana)
    row = add_training_set(site.platform, project, tmp_path)

    def turn(state):
        change = lambda session: session.get_one(TrainingSet, row.id).sqlmodel_update({"state": state})  # noqa: E731
        site.platform.database.write(change)

    turn("freezing")
    page = new_page(ana)
    page.goto(f"/train?project={project.id}")
    expect(page.get_by_text("A training set is being frozen")).to_be_visible()
    turn("ready")
    expect(page.get_by_role("button", name="Start training")).to_be_visible(timeout=30_000)


def test_a_training_is_started_waits_and_is_taken_out_of_the_queue(site, ana, new_page, project):
    page = new_page(ana)
    page.goto(f"/train?project={project.id}")
    page.get_by_role("radio", name="Better").check()
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**run=*")
    expect(page.get_by_text("waiting · next in the queue").first).to_be_visible()
    (run,) = site.rest(ana).get("runs", params={"project_id": project.id}).json()["items"]
    assert (run["config"]["minutes"], run["config"]["device"]) == (5, "auto")
    page.get_by_role("button", name="Take out of the queue").click()
    page.get_by_role("button", name="Press again").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()


def test_advanced_settings_are_named_and_explained_in_french(ana, new_page, project):
    page = new_page(ana, locale="fr-FR")
    page.goto(f"/train?project={project.id}")
    page.get_by_text("Réglages avancés").click()
    rate = page.locator("label").filter(has=page.locator("[name=learning_rate]"))
    expect(rate).to_contain_text("Taux d’apprentissage")
    expect(rate).to_contain_text("Taille des pas au début")
    expect(page.locator("[name=orientation]")).to_contain_text("debout")


def test_what_the_server_refuses_stands_at_its_field(ana, new_page, project):
    page = new_page(ana, allowed=["422"])
    page.goto(f"/train?project={project.id}")
    page.get_by_text("Advanced settings").click()
    page.locator("[name=batch]").fill("9")
    page.locator("[name=num_workers]").fill("2")
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#wrong-batch")).to_contain_text("9 crops cannot be shared by 2 workers")


def test_a_run_that_learns_is_shown_and_can_be_stopped(site, ana, new_page, project, start):
    run_id = start()
    become(site, run_id, "running", epochs=3, progress=0.4)
    page = new_page(ana)
    page.goto(f"/train?project={project.id}&run={run_id}")
    expect(page.get_by_text("40 %")).to_be_visible()
    expect(page.get_by_text("CPU, 2 threads")).to_be_visible()
    expect(page.get_by_text("2.0 min")).to_be_visible()
    page.get_by_text("The same as numbers").first.click()
    expect(page.get_by_role("row", name="3 0.333")).to_be_visible()
    page.get_by_role("button", name="Stop & keep best").click()
    expect(page.get_by_text("it stops, and its best epoch becomes a model")).to_be_visible()
    expect(page.get_by_role("button", name="Stop & keep best")).to_have_count(0)
    expect(page.get_by_role("button", name="Stop without a model")).to_be_visible()
    assert site.rest(ana).get(f"runs/{run_id}").json()["is_stopping"]


def test_what_a_run_notes_is_told_in_french(site, ana, new_page, project, start):
    run_id = start()
    become(site, run_id, "running", epochs=1)
    said = "memory ran out: the batch is 4 crops instead of 8"

    def note(session):
        run = session.get_one(Run, run_id)
        run.status = run.status | {"notices": [said]}

    site.platform.database.write(note)
    page = new_page(ana, locale="fr-FR")
    page.goto(f"/train?project={project.id}&run={run_id}")
    expect(page.get_by_text("la mémoire a manqué : le lot est de 4 extraits au lieu de 8")).to_be_visible()


def test_a_stopped_run_has_a_model_and_goes_on(site, ana, new_page, project, start):
    run_id = start()
    become(site, run_id, "done", epochs=3)

    def stop(session):
        run = session.get_one(Run, run_id)
        run.status = run.status | {"is_stopped": True, "best_epoch": 2, "progress": 0.4}

    site.platform.database.write(stop)
    page = new_page(ana)
    page.goto(f"/train?project={project.id}&run={run_id}")
    expect(page.get_by_text("Stopped at epoch 3, best of epoch 2.")).to_be_visible()
    expect(page.get_by_role("link", name="See the results")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Take out of the queue")).to_be_visible()


def test_a_failure_says_what_happened_what_was_kept_and_what_to_press(site, ana, new_page, project, start):
    run_id = start()
    become(site, run_id, "failed", epochs=2, reason="memory ran out", log="attempt 1 goes on from epoch 2\n")
    page = new_page(ana)
    page.goto(f"/train?project={project.id}&run={run_id}")
    expect(page.get_by_text("memory ran out").first).to_be_visible()
    expect(page.get_by_text("what was learnt in 2 epochs")).to_be_visible()
    expect(page.get_by_text("Restarted from epoch 2.")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Take out of the queue")).to_be_visible()


def test_viewers_look_and_press_nothing_and_names_are_text(site, ana, ben, new_page, project, start):
    name = "<img src=x onerror=alert(1)>"
    run_id = start()

    def write(session):
        session.add(ProjectMember(project_id=project.id, user_id=ben.user_id, role="viewer"))
        session.get_one(Run, run_id).name = name

    site.platform.database.write(write)
    become(site, run_id, "running", epochs=1)
    page = new_page(ben)
    page.goto(f"/train?project={project.id}&run={run_id}")
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(page.get_by_text("CPU, 2 threads")).to_be_visible()
    expect(page.get_by_role("button", name="Stop & keep best")).to_have_count(0)
    page.goto(f"/train?project={project.id}")
    expect(page.get_by_text("ask its owner to let you edit")).to_be_visible()
