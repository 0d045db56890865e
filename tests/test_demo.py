"""The whole loop as a person starts it: `axons demo` in a process of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from axons.demo import DemoOptions, Pair, find_pairs, run_demo
from axons.errors import AxonsError
from axons.model.files import load_model
from tests.drawing import draw_disks

pytestmark = pytest.mark.timeout(1000)


def axons(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command; warnings of libraries would be shown to a person too, so they are not silenced."""
    return subprocess.run([sys.executable, "-m", "axons", *arguments], capture_output=True, text=True, timeout=900)


def write_pairs(folder: Path, *, count: int = 4, size: int = 128) -> Path:
    """Images of disks with index masks, as a person would lay them out."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for i in range(count):
        drawing = draw_disks(size, size, seed=i)
        Image.fromarray(drawing.image[..., 0]).save(folder / "images" / f"rat{i}.png")
        Image.fromarray(drawing.mask).save(folder / "masks" / f"rat{i}.png")
    return folder


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """`axons demo --json` on the sample, for some seconds of training: a step takes four on an older processor."""
    out = tmp_path_factory.mktemp("sample") / "out"
    finished = axons("demo", "--minutes", "0.1", "--json", "--out", str(out))
    assert finished.returncode == 0, finished.stderr
    return finished, out


def test_the_demo_prints_exactly_one_json_object(sample):
    result = json.loads(sample[0].stdout)
    assert 0 < result["mean_iou"] <= 1
    assert set(result["classes"]) == {"background", "myelin", "axon"}
    assert list(result["seconds"]) == ["import", "freeze", "start", "train", "evaluate", "predict"]
    assert result["num_images"] == 8
    assert result["num_tiles"] > 8


def test_the_demo_is_quiet_where_nobody_looks(sample):
    assert sample[0].stderr == ""


def test_the_demo_leaves_a_model_that_loads(sample):
    model = load_model(json.loads(sample[0].stdout)["model"], device=torch.device("cpu"))
    assert [label_class.name for label_class in model.card.classes] == ["background", "myelin", "axon"]


def test_the_demo_leaves_a_report_that_opens_offline(sample):
    page = Path(json.loads(sample[0].stdout)["report"]).read_text()
    assert "://" not in page
    assert page.count("data:image/png") > 8


def test_the_demo_leaves_nothing_temporary(sample):
    keys = [path.relative_to(sample[1] / "store").as_posix() for path in (sample[1] / "store").rglob("*")]
    assert not [key for key in keys if key.startswith("tmp/") or "/ray/" in key]


@pytest.mark.long
def test_the_demo_learns_from_a_folder_and_holds_out_what_it_is_told(tmp_path):
    folder = write_pairs(tmp_path / "disks")
    finished = axons(
        "demo", str(folder), "--epochs", "1", "--json", "--out", str(tmp_path / "out"),
        "--classes", "ground,ring,core", "--test", "rat3*", "--group", r"rat\d",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout)
    assert list(result["classes"]) == ["ground", "ring", "core"]
    evaluation = json.loads((Path(result["model"]).parent / "evaluation.json").read_text())
    assert [image["name"] for image in evaluation["splits"]["test"]["images"]] == ["rat3.png"]


@pytest.mark.long
def test_the_demo_learns_from_real_micrographs(tmp_path, real_images):
    names = [path.name for path in sorted((real_images / "images").iterdir())[:3]]
    for part in ("images", "masks"):
        (tmp_path / "real" / part).mkdir(parents=True)
        for name in names:
            shutil.copy(real_images / part / name, tmp_path / "real" / part / name)
    finished = axons("demo", str(tmp_path / "real"), "--minutes", "0.2", "--json", "--out", str(tmp_path / "out"))
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout)
    assert result["num_images"] == 3
    assert len(result["classes"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "'nowhere' has no folder images; put images and masks there"),
        (["--minutes", "1", "--epochs", "2"], "give --minutes or --epochs, not both"),
        (["--epochs", "0"], "Input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_work_is_told_in_a_sentence(arguments, message):
    finished = axons("demo", *arguments)
    assert finished.returncode != 0
    assert finished.stdout == ""
    assert message in " ".join(finished.stderr.replace("│", "").split())
    assert "Traceback" not in finished.stderr


def test_images_are_paired_with_masks_of_the_same_stem(tmp_path):
    folder = write_pairs(tmp_path, count=2, size=8)
    (folder / "images" / "rat9.png").write_bytes(b"")
    (folder / "images" / ".hidden").write_bytes(b"")
    (folder / "masks" / "rat0.png").rename(folder / "masks" / "rat0.tif")
    assert find_pairs(folder) == [
        Pair(folder / "images/rat0.png", folder / "masks/rat0.tif"),
        Pair(folder / "images/rat1.png", folder / "masks/rat1.png"),
        Pair(folder / "images/rat9.png", None),
    ]


def test_a_folder_whose_masks_are_called_otherwise_is_refused(tmp_path):
    folder = write_pairs(tmp_path, count=1, size=8)
    (folder / "masks" / "rat0.png").rename(folder / "masks" / "other.png")
    with pytest.raises(AxonsError, match="no image in .* has a mask of the same name in .*; rename the masks"):
        find_pairs(folder)


def test_nothing_is_started_for_a_folder_that_cannot_work(tmp_path):
    with pytest.raises(AxonsError, match="has no folder images"):
        run_demo(DemoOptions(folder=tmp_path), console=None)


def test_masks_of_many_values_need_names(tmp_path):
    folder = write_pairs(tmp_path / "grey", count=2, size=64)
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(path)
    finished = axons("demo", str(folder), "--epochs", "1", "--out", str(tmp_path / "out"))
    assert finished.returncode == 1
    assert "the masks hold 256 different values; name the classes with --classes" in finished.stderr
