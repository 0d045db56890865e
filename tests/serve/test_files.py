"""Image files in, masks and tables out, on this machine."""

import csv
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from axons.errors import AxonsError, ChecksumMismatch, ModelRefused
from axons.serve.files import predict_files
from axons.serve.predictor import load_predictor, segment
from tests.drawing import draw_disks
from tests.serve.models import CPU, make_model

DISKS = draw_disks(90, 110).image
COLOUR = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
LOSSLESS = ["grey.png", "grey.tif", "grey.bmp", "grey.webp"]
ANY_NAMES = ["Nervenquerschnitt äöü ß.png", "神経 🧠.png", "with\nnew line.png", "a b'c\".png"]
UNUSABLE = {"bad.png": "'bad.png' is not", "missing.png": "missing.png' is not there; check the name"}


def write(path, image=DISKS):
    Image.fromarray(image.squeeze()).save(path)
    return path


def read(path):
    return np.asarray(Image.open(path))


def rows_of(path):
    return list(csv.DictReader(Path(path).read_text().splitlines()))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return Path(make_model(tmp_path_factory.mktemp("model")), "model.safetensors")


@pytest.fixture(scope="module")
def predictor(weights):
    return load_predictor(str(weights.parent), device=CPU)


@pytest.fixture(scope="module")
def scaled_weights(tmp_path_factory):
    """Of a model that was trained at 0.2 µm per px."""
    return Path(make_model(tmp_path_factory.mktemp("model"), pixel_size_um=0.2), "model.safetensors")


@pytest.fixture(scope="module")
def predicted(weights, tmp_path_factory):
    """One call for files of every kind, two of them unusable; the tests below look at what it left."""
    folder = tmp_path_factory.mktemp("images")
    for name in LOSSLESS:
        Image.fromarray(DISKS.squeeze()).convert("RGB").save(folder / name, lossless=True)
    for name in [*ANY_NAMES, "grey.jpg", '=1+1,"x".png']:
        write(folder / name)
    write(folder / "colour.png", COLOUR)
    tifffile.imwrite(folder / "deep.tif", DISKS[..., 0].astype(np.uint16) * 40)
    (folder / "bad.png").write_bytes(b"not an image at all")
    images = [folder / "missing.png", *folder.iterdir()]
    results = predict_files(weights, images, folder / "new" / "out", with_overlay=True, objects_of="core")
    return folder, {Path(result.image).name: result for result in results}


@pytest.mark.parametrize("name", LOSSLESS)
def test_the_mask_of_a_file_is_the_prediction_of_its_pixels(predicted, predictor, name):
    assert np.array_equal(read(predicted[1][name].mask), segment(DISKS, predictor).mask)


def test_a_jpeg_is_predicted_as_it_is_decoded(predicted, predictor):
    decoded = read(predicted[0] / "grey.jpg")
    assert (read(predicted[1]["grey.jpg"].mask) == segment(decoded, predictor).mask).mean() > 0.99


def test_16_bits_are_predicted_as_16_bits(predicted, predictor):
    deep = DISKS.astype(np.uint16) * 40
    assert np.array_equal(read(predicted[1]["deep.tif"].mask), segment(deep, predictor).mask)


def test_a_mask_is_a_palette_picture_that_shows_the_classes(predicted):
    with Image.open(predicted[1]["grey.png"].mask) as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[3:9] == [0xE6, 0x9F, 0x00, 0x56, 0xB4, 0xE9]


def test_results_lie_in_the_folder_under_the_name_of_the_image(predicted):
    folder, results = predicted
    assert results["grey.png"].mask == str(folder / "new" / "out" / "grey.png.mask.png")


def test_the_pixels_of_each_class_are_told_and_add_up(predicted):
    result = predicted[1]["grey.png"]
    mask = read(result.mask)
    assert result.class_pixels == {n: int((mask == k).sum()) for k, n in enumerate(["background", "ring", "core"])}
    assert sum(result.class_pixels.values()) == 90 * 110


def test_a_table_holds_the_pixels_of_every_predicted_image(predicted):
    folder, results = predicted
    rows = {row["image"]: row for row in rows_of(folder / "new" / "out" / "classes.csv")}
    assert len(rows) == len(results) - len(UNUSABLE)
    assert {"image": "grey.png", **{k: str(v) for k, v in results["grey.png"].class_pixels.items()}} == rows["grey.png"]


def test_a_name_that_a_spreadsheet_would_take_for_a_formula_is_guarded(predicted):
    rows = rows_of(predicted[0] / "new" / "out" / "classes.csv")
    assert '\'=1+1,"x".png' in [row["image"] for row in rows]


def test_an_overlay_has_the_size_of_the_image(predicted):
    assert read(predicted[1]["grey.png"].overlay).shape == (90, 110, 3)


def test_objects_of_a_class_are_measured(predicted):
    result = predicted[1]["grey.png"]
    assert sum(int(row["area"]) for row in rows_of(result.objects)) == result.class_pixels["core"]


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_file_that_cannot_be_read_is_refused_and_the_rest_is_done(predicted, name):
    folder, results = predicted
    assert UNUSABLE[name] in results[name].refusal
    assert not list((folder / "new" / "out").glob(f"{name}*"))


@pytest.mark.parametrize("name", ANY_NAMES)
def test_files_may_have_any_name(predicted, name):
    folder, results = predicted
    assert results[name].refusal is None
    assert (folder / "new" / "out" / f"{name}.mask.png").is_file()


def test_notices_tell_what_was_done_to_an_image(predicted):
    notices = predicted[1]["colour.png"].notices
    assert notices == ["the model expects grey images: the mean of the three colours was taken"]


def test_a_name_that_is_no_text_is_refused_and_not_a_crash(weights, tmp_path):
    name = os.fsdecode(b"nerve-\xff.png")
    write(tmp_path / "a.png").rename(tmp_path / name)
    (result,) = predict_files(weights, [tmp_path / name], tmp_path / "out")
    assert result.refusal.startswith(r"'nerve-\udcff.png' cannot be decoded")


def test_an_image_above_16_mpx_is_refused_with_what_to_do(weights, tmp_path):
    write(tmp_path / "large.png", np.zeros((4001, 4000), np.uint8))
    (result,) = predict_files(weights, [tmp_path / "large.png"], tmp_path / "out")
    assert "up to 16 Mpx are predicted here; send it to a server as a prediction job" in result.refusal


def test_the_name_of_a_class_does_not_decide_where_its_objects_are_written(tmp_path):
    classes = [{"name": "background", "colour": "#000000"}, {"name": "../../axon", "colour": "#FFFFFF"}]
    weights = Path(make_model(tmp_path / "model", classes=classes), "model.safetensors")
    (result,) = predict_files(weights, [write(tmp_path / "a.png")], tmp_path / "out", objects_of="../../axon")
    assert Path(result.objects) == tmp_path / "out" / "a.png.objects.csv"


def test_a_class_that_the_model_does_not_have_is_refused(weights, tmp_path):
    with pytest.raises(AxonsError, match="the model has no class 'axon'; choose one of background, ring, core"):
        predict_files(weights, [write(tmp_path / "a.png")], tmp_path / "out", objects_of="axon")


def test_two_images_of_one_name_are_refused_before_anything_is_written(weights, tmp_path):
    (tmp_path / "x").mkdir()
    images = [write(tmp_path / "a.png"), write(tmp_path / "x" / "a.png")]
    with pytest.raises(AxonsError, match="2 of the images are called 'a.png' and would share one mask"):
        predict_files(weights, images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_is_never_overwritten_by_a_result(weights, tmp_path):
    images = [write(tmp_path / "a.png"), write(tmp_path / "a.png.mask.png")]
    before = images[1].read_bytes()
    (tmp_path / "x").mkdir()
    with pytest.raises(AxonsError, match="'.*a.png.mask.png' would be overwritten by a result; choose another folder"):
        predict_files(weights, images, tmp_path / "x" / "..")
    assert images[1].read_bytes() == before


def test_results_may_lie_beside_the_images_and_be_made_again(weights, tmp_path):
    image = write(tmp_path / "a.png")
    before = image.read_bytes()
    first = predict_files(weights, [image], tmp_path)
    assert predict_files(weights, [image], tmp_path) == first
    assert image.read_bytes() == before


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_file_where_the_masks_shall_go_is_refused(weights, tmp_path, out):
    (tmp_path / "file").write_text("")
    with pytest.raises(AxonsError, match="'.*' is a file; choose a folder for the masks"):
        predict_files(weights, [write(tmp_path / "a.png")], tmp_path / out)


def test_no_images_give_an_empty_table(weights, tmp_path):
    assert predict_files(weights, [], tmp_path / "out") == []
    assert (tmp_path / "out" / "classes.csv").read_text() == 'image,"background","ring","core"\n'


@pytest.mark.parametrize("name", ["model.json", "other.safetensors", "."])
def test_what_is_not_the_weights_of_a_model_is_refused(weights, tmp_path, name):
    with pytest.raises(ModelRefused, match="is not a model: give model.safetensors with model.json beside it"):
        predict_files(weights.parent / name, [write(tmp_path / "a.png")], tmp_path / "out")


def test_a_damaged_model_is_refused(tmp_path):
    weights = Path(make_model(tmp_path / "model"), "model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ChecksumMismatch):
        predict_files(weights, [write(tmp_path / "a.png")], tmp_path / "out")


def write_with_pixel_size(path, pixel_size_um):
    metadata = {"axes": "YX", "PhysicalSizeX": pixel_size_um, "PhysicalSizeXUnit": "µm"}
    metadata |= {"PhysicalSizeY": pixel_size_um, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, DISKS[..., 0], ome=True, metadata=metadata)
    return path


def test_an_image_is_brought_to_the_pixel_size_of_the_training(scaled_weights, predictor, tmp_path):
    image = write_with_pixel_size(tmp_path / "a.ome.tif", 0.1)
    (result,) = predict_files(scaled_weights, [image], tmp_path / "out")
    assert result.notices == ["the image has 0.1 µm per px where the model expects 0.2: it was predicted at scale 0.5"]
    assert np.array_equal(read(result.mask), segment(DISKS, predictor, scale=0.5).mask)


def test_a_scale_that_was_asked_for_goes_before_the_pixel_size(scaled_weights, predictor, tmp_path):
    image = write_with_pixel_size(tmp_path / "a.ome.tif", 0.1)
    (result,) = predict_files(scaled_weights, [image], tmp_path / "out", scale=2)
    assert result.notices == []
    assert np.array_equal(read(result.mask), segment(DISKS, predictor, scale=2).mask)


def test_an_image_without_a_pixel_size_is_predicted_as_it_is_and_told(scaled_weights, tmp_path):
    (result,) = predict_files(scaled_weights, [write(tmp_path / "a.png")], tmp_path / "out")
    assert result.notices == [
        "the model was trained at 0.2 µm per px and the image does not state its pixel size; "
        "choose a scale if its own is another"
    ]


@pytest.mark.usefixtures("predictor")  # what the node caches for good is there already
@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_nothing_temporary_is_left_also_when_an_image_is_refused(weights, tmp_path, monkeypatch, content):
    write(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(content)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    predict_files(weights, [tmp_path / "a.png", tmp_path / "bad.png"], tmp_path / "out", with_overlay=True)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_real_micrographs_are_predicted(weights, tmp_path, real_images):
    images = sorted((real_images / "images").iterdir())[:2]
    results = predict_files(weights, images, tmp_path / "out")
    assert [result.refusal for result in results] == [None, None]
