"""The `axons` command: what it prints where, and how it ends. `axons demo` itself is tested in test_demo.py."""

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from axons import __version__, cli
from axons.cli import server
from axons.data.formats import ExportFormat, ImportFormat
from tests.drawing import draw_disks
from tests.serve.models import make_model

DISKS = draw_disks(70, 90).image[..., 0]
COLOUR_NOTICE = "the model expects grey images: the mean of the three colours was taken"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, a grey image, a colour image, and a file that is no image."""
    folder = tmp_path_factory.mktemp("cli")
    make_model(folder / "model")
    Image.fromarray(DISKS).save(folder / "grey.png")
    Image.fromarray(np.stack([DISKS, DISKS // 2, DISKS // 3], axis=-1)).save(folder / "colour.png")
    (folder / "bad.png").write_text("no image")
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """The command as a person calls it, in the folder: exit code, standard output, standard error."""

    def run(*arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["axons", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


def predict(*arguments):
    return ["predict", "--local", "model/model.safetensors", *arguments]


def test_predict_tells_where_each_mask_is(run, folder, tmp_path):
    code, out, err = run(*predict("grey.png", "-o", str(tmp_path)))
    assert (code, out, err) == (0, f"grey.png -> {tmp_path}/grey.png.mask.png\n", "")
    assert np.asarray(Image.open(tmp_path / "grey.png.mask.png")).shape == DISKS.shape


def test_with_json_predict_prints_one_object_and_nothing_else(run, tmp_path):
    code, out, err = run(*predict("grey.png", "colour.png", "-o", str(tmp_path), "--json"))
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert [image["image"] for image in document["images"]] == ["grey.png", "colour.png"]
    assert document["images"][1]["notices"] == [COLOUR_NOTICE]


def test_predict_tells_its_notices_on_standard_error(run, tmp_path):
    code, _, err = run(*predict("colour.png", "-o", str(tmp_path)))
    assert (code, err) == (0, f"colour.png: {COLOUR_NOTICE}\n")


def test_predict_refuses_a_file_on_standard_error_does_the_rest_and_ends_with_1(run, tmp_path):
    code, out, err = run(*predict("bad.png", "grey.png", "-o", str(tmp_path)))
    assert code == 1
    assert out == f"grey.png -> {tmp_path}/grey.png.mask.png\n"
    assert err.startswith("'bad.png' is not")
    assert err.count("\n") == 1


def test_with_json_a_refusal_is_in_the_object_and_the_command_ends_with_1(run, tmp_path):
    code, out, _ = run(*predict("bad.png", "-o", str(tmp_path), "--json"))
    assert code == 1
    assert "'bad.png'" in json.loads(out)["images"][0]["refusal"]


def test_predict_draws_overlays_and_measures_objects_on_request(run, tmp_path):
    code, _, _ = run(*predict("grey.png", "-o", str(tmp_path), "--overlay", "--objects", "core", "--scale", "0.5"))
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "classes.csv",
        "grey.png.mask.png",
        "grey.png.objects.csv",
        "grey.png.overlay.png",
    ]


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--local", "model", "grey.png"], "'model' is not a model: give model.safetensors with model.json beside it"),
        (predict("grey.png", "--objects", "axon")[1:], "the model has no class 'axon'; choose one of background, ring"),
        (predict("grey.png", "./grey.png")[1:], "2 of the images are called 'grey.png' and would share one mask"),
    ],
)
def test_an_error_is_one_sentence_on_standard_error_and_ends_with_1(run, tmp_path, arguments, sentence, as_json):
    code, out, err = run("predict", *arguments, "-o", str(tmp_path), *as_json)
    assert (code, out) == (1, "")
    assert err.startswith(sentence)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "grey.png", "-o", "out"],
        predict("grey.png"),
        predict("-o", "out"),
        predict("grey.png", "-o", "out", "--scale", "5"),
        predict("grey.png", "-o", "out", "--scale", "nan"),
        ["demo", "--minutes", "1", "--epochs", "2"],
        ["no-such-command"],
    ],
)
def test_a_command_that_is_called_wrongly_ends_with_2_and_prints_no_result(run, folder, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: ")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("command", "words"), [([], ["predict", "demo"]), (["predict"], ["--local", "--json", "--out"])]
)
def test_help_names_what_there_is(run, command, words):
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert set(words) <= set(out.replace(",", " ").split())


def test_the_version_is_told(run):
    assert run("--version") == (0, f"{__version__}\n", "")


def test_the_command_is_a_program_of_its_own(folder, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "axons", *predict("grey.png", "-o", str(tmp_path), "--json")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(json.loads(done.stdout)["images"][0]["mask"]).is_file()


def test_help_does_not_wait_for_torch_or_ray():
    code = "import sys; from axons.cli import app; print('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def commands(group=cli.app, path=()):
    """Every command with its words: ("project", "create"), …"""
    for entry in group.registered_commands:
        yield (*path, entry.name or entry.callback.__name__.replace("_", "-"))
    for entry in group.registered_groups:
        yield from commands(entry.typer_instance, (*path, entry.name))


@pytest.mark.parametrize("words", sorted(commands()), ids=" ".join)
def test_every_command_has_help_and_prints_json_on_request(run, words):
    code, out, _ = run(*words, "--help")
    assert code == 0
    assert "--json" in out


@pytest.mark.parametrize(
    ("command", "formats"), [(["export"], ExportFormat), (["annotations", "import"], ImportFormat)]
)
def test_help_names_the_formats_that_the_server_takes_and_no_others(run, monkeypatch, command, formats):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = run(*command, "--help")
    assert f"<{'|'.join(get_args(formats))}>" in out


STAGES = """
up, demo, login, token create, user add, user reset, user disable, backup, restore, project create, project list,
project show, project rename, project archive, project delete, project export, project import, images add,
annotations import, training-set create, training-set list, training-set show, training-set download, train, runs list,
runs show, runs cancel, runs resume, runs metrics, runs log, jobs list, jobs show, jobs cancel, evaluate, models list,
models show, models download, models export, models import, models promote, models rollback, models share, predict,
report, export,
class list, class create, class join, class add-students, class progress, class limits
"""


def test_the_commands_cover_every_stage():
    assert {tuple(words.split()) for words in STAGES.split(",")} <= set(commands())


@pytest.fixture
def away(run, tmp_path, monkeypatch):
    """The command of a person who has never signed in."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("AXONS_URL", raising=False)
    monkeypatch.delenv("AXONS_TOKEN", raising=False)
    return run


@pytest.mark.parametrize(
    "words", [["project", "list"], ["runs", "show", "nerve/1"], ["predict", "m", "i.png", "-o", "o"]]
)
def test_who_is_not_signed_in_is_told_how_to(away, words):
    code, out, err = away(*words, "--json")
    assert (code, out) == (1, "")
    assert err.startswith("you are not signed in to http://127.0.0.1:8000; run `axons login`")


def test_a_saved_token_goes_to_no_other_server(away, monkeypatch):
    server.save_credentials("http://127.0.0.1:1", "secret")
    monkeypatch.setenv("AXONS_URL", "http://127.0.0.1:2")
    code, _, err = away("project", "list")
    assert code == 1
    assert err.startswith("you are not signed in to http://127.0.0.1:2")


def test_the_token_is_saved_for_its_owner_only(away, tmp_path):
    path = server.save_credentials("http://127.0.0.1:1", "secret")
    server.save_credentials("http://127.0.0.1:1", "newer")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["token"] == "newer"
    assert [file.name for file in path.parent.iterdir()] == ["credentials.json"]


def test_credentials_that_cannot_be_read_are_said_to_be_so(away):
    server.save_credentials("http://127.0.0.1:1", "x").write_text("{")
    code, _, err = away("project", "list")
    assert code == 1
    assert "remove it and run `axons login`" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "nerve/1", "--wait", "--prepare"],
        ["training-set", "create", "nerve", "--split", "70/30"],
        ["training-set", "create", "nerve", "--split", "a/b/c"],
        ["evaluate", "nerve/nerve"],
        ["evaluate", "nerve/nerve", "--images", "."],
        ["predict", "nerve/nerve", "-o", "out"],
        ["predict", "nerve/nerve", "grey.png", "-o", "out", "--objects", "axon"],
        ["export", "nerve", "--format", "project", "-o", "x.zip"],
        ["annotations", "import", "nerve", ".", "--format", "docx"],
        ["restore", "no-such-file", "--data", "x"],
        ["up", "--port", "0"],
    ],
)
def test_a_command_for_the_server_that_is_called_wrongly_asks_nobody(away, arguments):
    code, out, err = away(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: ")
