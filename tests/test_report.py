"""The report of a run trained in this process; the pictures are looked at in `make demo`."""

import re

import pytest
import torch

from axons import __version__
from axons.data.shards import ShardReader
from axons.data.storage import open_storage
from axons.data.training_set import load_training_set
from axons.errors import RunRefused
from axons.model.network import build_network
from axons.report import Figure, line_chart, render_report, write_report
from axons.train.config import resolve
from axons.train.loop import TrainingLoop
from axons.train.publish import publish
from axons.train.reporter import Reporter
from axons.train.run import RESOLVED, Status
from tests.train.runs import make_run


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run, without Ray."""
    run = make_run(tmp_path_factory.mktemp("report"), epochs=2)
    request = run.request()
    training_set = load_training_set(request.training_set)
    resolved = resolve(request.config, training_set, on_gpu=False)
    run.storage.write(RESOLVED, resolved.packed())
    reader = ShardReader(open_storage(request.training_set), training_set)
    loop = TrainingLoop(
        build_network(resolved.network, seed=0), reader, training_set, resolved, device=torch.device("cpu")
    )
    while not loop.progress.is_finished:
        loop.train_epoch()
    reporter = Reporter(
        run,
        run.begin_attempt(),
        classes=[label_class.name for label_class in training_set.classes],
        num_workers=1,
        started_at=0.0,
    )
    reporter.epochs(loop.metrics, best_epoch=loop.progress.best_epoch)
    assert publish(loop, run, request, training_set, reader, resolved, reporter=reporter).state == "done"
    run.write_status(Status(state="done", attempt=1, epoch=2, step=40, seconds=65, best_epoch=2, device="CPU"))
    return run


@pytest.fixture(scope="module")
def page(done):
    return render_report(done.uri)


def test_the_report_names_run_training_set_and_code(done, page):
    assert "run-1" in page
    assert done.request().training_set_sha256 in page
    assert f"axons {__version__}" in page


def test_the_report_holds_data_settings_curves_and_scores(page):
    for heading in ("The data it learned from", "Settings", "Loss", "IoU on the validation images", "Model card"):
        assert heading in page
    assert "Scores on the test images" in page
    assert "Confusion matrix" in page
    assert "Where it fails most" in page
    assert page.index("Scores on the test images") < page.index("Scores on the validation images")


def test_the_report_reaches_for_nothing_outside(page):
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "<script" not in page


def test_names_from_people_are_escaped(done):
    run = done
    before = run.storage.read("run.json")
    request = run.request().model_copy(update={"name": "<script>alert(1)</script>"})
    run.storage.replace("run.json", request.packed())
    page = render_report(run.uri)
    run.storage.replace("run.json", before)
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_figures_come_inside_the_page(done, tmp_path):
    path = tmp_path / "new" / "report.html"
    write_report(done.uri, path, figures=[Figure(data=b"\x89PNG picture", caption="a nerve")])
    assert "a nerve</figcaption>" in path.read_text()
    assert "data:image/png;base64,iVBORyBwaWN0dXJl" in path.read_text()


def test_a_run_that_is_not_done_has_no_report(tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(RunRefused, match="run 'run-1' is queued; a report needs a finished training"):
        render_report(run.uri)


def test_a_chart_places_values_and_leaves_gaps_out():
    chart = line_chart("Loss", [1, 2, 3], {"a": [1.0, None, 0.0], "b": [None, None, None]}, x_label="epoch")
    assert [line.name for line in chart.lines] == ["a"]
    assert len(chart.lines[0].points.split()) == 2
    assert chart.lines[0].last == (508, 210)


def test_a_chart_of_one_epoch_is_drawn():
    chart = line_chart("Loss", [1], {"a": [0.5]}, x_label="epoch")
    assert chart.lines[0].points
