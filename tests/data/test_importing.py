"""Uploads through Ray Data: working images, tiles and thumbnails; labels; a sentence for each file turned down."""

import hashlib
import io
import re
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from axons.data.archives import unpack_archive
from axons.data.images import WorkingImage
from axons.data.importing import (
    ImportedImage,
    ImportedLabels,
    MaskUpload,
    Refusal,
    Upload,
    import_images,
    import_masks,
    survey_masks,
    tile_images,
)
from axons.data.layers import crc32, unpack
from axons.data.masks import ColourCoding, GreyCoding, IndexCoding
from axons.data.measuring import measure_tiles
from axons.data.storage import local_file, open_storage
from axons.data.tiles import TileGrid, Window
from axons.errors import ObjectNotFound
from tests.drawing import draw_disks

pytestmark = pytest.mark.usefixtures("local_ray")

GRID = TileGrid(tile=64)
HEIGHT, WIDTH = 70, 100


def noise(height=HEIGHT, width=WIDTH, channels=3, dtype=np.uint8):
    shape = (height, width, channels)
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def picture(pixels):
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def encoded(opened, kind="PNG", **options):
    buffer = io.BytesIO()
    opened.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels)
    return buffer.getvalue()


def store(folder, files):
    """{name: bytes} as files that lie under numbers; their uploads."""
    folder.mkdir()
    uploads = [
        Upload(image_id=f"image-{number}", uri=str(folder / str(number)), name=name)
        for number, name in enumerate(files)
    ]
    for upload in uploads:
        (folder / upload.uri).write_bytes(files[upload.name])
    return uploads


def by_name(results):
    return {result.name: result for result in results}


def imported(uploads, target_uri, grid=GRID):
    return by_name(import_images(uploads, target_uri=target_uri, grid=grid))


def working_pixels(image):
    return WorkingImage(local_file(image.working_uri)).read_all()


def sheet_of(image):
    folder, _, key = image.sheet_uri.rpartition("/")
    return Image.open(io.BytesIO(open_storage(folder).read(key)))


def snapshot(uri):
    storage = open_storage(uri)
    return {stored.key: (storage.read(stored.key), stored.modified) for stored in storage.list_objects()}


@pytest.fixture
def target_uri(tmp_path):
    return str(tmp_path / "target")


# Row A11: many files, or a ZIP.


@pytest.fixture(scope="module")
def many(tmp_path_factory, local_ray):
    folder = tmp_path_factory.mktemp("many")
    kinds = ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "PNG"]
    files = {f"{number} {kind}": encoded(picture(noise()), kind) for number, kind in enumerate(2 * kinds)}
    return imported(store(folder / "uploads", files), str(folder / "target"))


def test_each_of_twelve_files_becomes_an_image(many):
    assert len(many) == 12
    assert {type(image) for image in many.values()} == {ImportedImage}
    assert {(image.height, image.width, len(image.tiles)) for image in many.values()} == {(HEIGHT, WIDTH, 4)}
    assert len({image.working_uri for image in many.values()}) == 12


def test_each_has_a_thumbnail_sheet_that_can_be_read(many):
    assert {sheet_of(image).size for image in many.values()} == {(WIDTH, HEIGHT)}
    assert {image.sheet_step for image in many.values()} == {64}


def test_the_five_formats_are_told_apart(many):
    formats = {name.split()[1]: image.format for name, image in many.items()}
    assert formats == {"PNG": "PNG", "JPEG": "JPEG", "TIFF": "TIFF", "WEBP": "WebP", "BMP": "BMP"}


@pytest.fixture
def zipped(tmp_path):
    with zipfile.ZipFile(tmp_path / "upload.zip", "w") as archive:
        archive.writestr("a.png", encoded(picture(noise())))
        archive.writestr("über/ほ.bmp", encoded(picture(noise()), "BMP"))
        archive.writestr("__MACOSX/._a.png", b"noise")
        archive.writestr("notes.txt", b"these are my images")
    (tmp_path / "unpacked").mkdir()
    return [
        Upload(image_id=f"image-{number}", uri=str(file.path), name=file.name)
        for number, file in enumerate(unpack_archive(tmp_path / "upload.zip", tmp_path / "unpacked", name="upload.zip"))
    ]


@pytest.mark.parametrize("place", ["target_uri", "s3_uri"])
def test_the_files_of_a_zip_are_imported_to_any_storage(zipped, place, request):
    results = imported(zipped, request.getfixturevalue(place))
    assert isinstance(results.pop("notes.txt"), Refusal)
    assert sorted(results) == ["a.png", "über/ほ.bmp"]
    assert all(np.array_equal(working_pixels(image), noise()) for image in results.values())
    assert {sheet_of(image).size for image in results.values()} == {(WIDTH, HEIGHT)}


def test_uploads_may_lie_in_a_bucket(s3_uri):
    open_storage(s3_uri).write("tmp/upload", encoded(picture(noise())))
    upload = Upload(image_id="a", uri=f"{s3_uri}/tmp/upload", name="a.png")
    image = imported([upload], f"{s3_uri}/images")["a.png"]
    assert image.working_uri == f"{s3_uri}/images/a.tif"
    assert np.array_equal(working_pixels(image), noise())


GOOD = encoded(picture(noise()))


# Row A12: bad files among good ones.

BAD = {
    "cut off.png": GOOD[: len(GOOD) // 2],
    "empty.png": b"",
    "text.png": b"This is a letter, not an image.\n" * 100,
    "über.tif": b"II*\0" + bytes(8),
    "page.jpg": b"<html><body>404</body></html>",
    "vector.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>',
    "film.png": b"GIF89a" + bytes(100),
}


@pytest.fixture(scope="module")
def beside_bad(tmp_path_factory, local_ray):
    folder = tmp_path_factory.mktemp("bad")
    files = {"first.png": GOOD, **BAD, "last.png": GOOD}
    return imported(store(folder / "uploads", files), str(folder / "target")), folder / "target"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_one_sentence_that_names_it(beside_bad, name):
    refusal = beside_bad[0][name]
    assert isinstance(refusal, Refusal)
    assert re.fullmatch(re.escape(repr(name)) + " [^\n]+; [^\n]+[^.\n]", refusal.reason)


def test_the_good_files_beside_it_are_kept(beside_bad):
    kept = [result for result in beside_bad[0].values() if isinstance(result, ImportedImage)]
    assert sorted(image.name for image in kept) == ["first.png", "last.png"]
    assert all(np.array_equal(working_pixels(image), noise()) for image in kept)


def test_a_refused_file_leaves_nothing_in_storage(beside_bad):
    last = len(BAD) + 1
    keys = ["image-0.jpg", "image-0.tif", f"image-{last}.jpg", f"image-{last}.tif"]
    assert sorted(path.name for path in beside_bad[1].iterdir()) == keys


def test_a_file_is_known_by_its_content_not_by_its_extension(tmp_path, target_uri):
    files = {"photo.jpg": GOOD, "notes.txt": encoded(picture(noise()), "BMP")}
    results = imported(store(tmp_path / "uploads", files), target_uri)
    assert {name: result.format for name, result in results.items()} == {"photo.jpg": "PNG", "notes.txt": "BMP"}


def test_an_upload_that_is_gone_is_refused_by_name_without_its_address(tmp_path, target_uri):
    [refusal] = import_images(
        [Upload(image_id="a", uri=str(tmp_path / "gone"), name="nerve.png")], target_uri=target_uri, grid=GRID
    )
    assert refusal.reason == "'nerve.png' is not in storage any more; send it again"


def rotated(pixels):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return encoded(picture(pixels), exif=exif)


def with_palette(indices, colours):
    opened = picture(indices)
    opened.putpalette(colours)
    return encoded(opened)


PALETTE = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
HALF_CLEAR = np.concatenate([noise(), np.repeat([[[0], [255]]], WIDTH // 2, axis=1).repeat(HEIGHT, axis=0)], axis=2)


# Row A13: one working form.

FILES = {
    "deep.tif": tiff(noise(channels=1, dtype=np.uint16)[..., 0]),
    "turned.png": rotated(noise()),
    "palette.png": with_palette(noise(channels=1), PALETTE.tobytes()),
    "alpha.png": encoded(picture(HALF_CLEAR.astype(np.uint8))),
}
WORKING = {
    "deep.tif": noise(channels=1, dtype=np.uint16),
    "turned.png": np.rot90(noise(), -1),
    "palette.png": PALETTE[noise(channels=1)[..., 0]],
    "alpha.png": np.where(HALF_CLEAR[..., 3:] > 0, noise(), 255).astype(np.uint8),
}


@pytest.fixture(scope="module")
def converted(tmp_path_factory, local_ray):
    folder = tmp_path_factory.mktemp("conversions")
    uploads = store(folder / "uploads", FILES)
    first = imported(uploads, str(folder / "target"))
    stored = snapshot(folder / "target")
    second = imported(uploads, str(folder / "target"))
    return {"folder": folder, "first": first, "stored": stored, "second": second}


@pytest.mark.parametrize("name", FILES)
def test_a_file_becomes_its_working_image_pixel_by_pixel(converted, name):
    image, expected = converted["first"][name], WORKING[name]
    assert (image.height, image.width, image.channels) == expected.shape
    assert image.dtype == expected.dtype.name
    assert np.array_equal(working_pixels(image), expected)


def test_what_was_changed_is_told(converted):
    assert converted["first"]["alpha.png"].notices == ["the alpha channel was removed; transparent parts became white"]
    assert converted["first"]["deep.tif"].notices == []


def test_the_upload_keeps_its_bytes_and_its_sha256_is_recorded(converted):
    stored = [(converted["folder"] / "uploads" / str(number)).read_bytes() for number in range(len(FILES))]
    assert stored == list(FILES.values())
    assert {name: image.sha256 for name, image in converted["first"].items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()
    }
    assert {name: image.num_bytes for name, image in converted["first"].items()} == {
        name: len(data) for name, data in FILES.items()
    }


def test_importing_twice_changes_nothing(converted):
    assert converted["second"] == converted["first"]
    assert snapshot(converted["folder"] / "target") == converted["stored"]
    assert len(converted["stored"]) == 2 * len(FILES)


# Row A18: tiles.


@pytest.fixture(scope="module")
def wide(tmp_path_factory, local_ray):
    folder = tmp_path_factory.mktemp("tiles")
    uploads = store(folder / "uploads", {"wide.png": encoded(picture(noise(700, 1000)))})
    return imported(uploads, str(folder / "target"), TileGrid(tile=256))["wide.png"]


def test_an_image_has_the_computed_number_of_tiles(wide):
    assert len(wide.tiles) == -(-700 // 256) * -(-1000 // 256) == 12
    assert [tile.window for tile in wide.tiles] == TileGrid(tile=256).windows(700, 1000)


def test_tiles_of_256_px_that_share_32_are_15_on_1000_by_700_px(wide):
    [(image_id, tiles)] = tile_images([wide], grid=TileGrid(tile=256, overlap=32))
    rows, cols = -(-(700 - 32) // (256 - 32)), -(-(1000 - 32) // (256 - 32))
    assert image_id == wide.image_id
    assert len(tiles) == rows * cols == 15
    assert {(tile.height, tile.width) for tile in tiles} == {(256, 256)}


@pytest.mark.parametrize("grid", [TileGrid(tile=64), TileGrid(tile=100, overlap=50), TileGrid(tile=2000)])
def test_tiles_of_another_grid_are_those_measured_here(wide, grid):
    [(_, tiles)] = tile_images([wide], grid=grid)
    here = measure_tiles(WorkingImage(local_file(wide.working_uri)), grid, wide.contrast_limits)
    assert [(tile.window, tile.mean, tile.sharpness) for tile in tiles] == [
        (tile.window, tile.mean, tile.sharpness) for tile in here
    ]


def test_tiles_that_overlap_are_no_grid_to_import_by(target_uri):
    with pytest.raises(ValueError, match="overlap is 32 px; import by tiles without overlap"):
        list(import_images([], target_uri=target_uri, grid=TileGrid(tile=256, overlap=32)))


def test_a_working_image_that_is_gone_is_told_in_one_sentence(wide, tmp_path):
    gone = wide.model_copy(update={"working_uri": str(tmp_path / "gone.tif")})
    with pytest.raises(ObjectNotFound) as error:
        list(tile_images([gone], grid=GRID))
    assert str(error.value) == f"nothing is stored under 'gone.tif' in {tmp_path}; check the address"


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 700), (700, 1), (64, 65)])
def test_an_image_of_any_shape_has_tiles_that_cover_it_once(tmp_path, target_uri, height, width):
    uploads = store(tmp_path / "uploads", {"a.png": encoded(picture(noise(height, width, 1)))})
    image = imported(uploads, target_uri)["a.png"]
    covered = np.zeros((height, width), int)
    np.add.at(covered, tuple(np.concatenate([pixels_of(tile.window) for tile in image.tiles], axis=1)), 1)
    assert (covered == 1).all()
    assert min(sheet_of(image).size) >= 1


def pixels_of(window: Window):
    rows, cols = np.mgrid[window.slices]
    return np.stack([rows.reshape(-1), cols.reshape(-1)])


def test_no_uploads_are_no_images(target_uri):
    assert list(import_images([], target_uri=target_uri, grid=GRID)) == []


def test_uploads_that_share_an_id_are_refused_for_one_would_hide_the_other(tmp_path, target_uri):
    upload, _ = store(tmp_path / "uploads", {"a.png": GOOD, "b.png": GOOD})
    with pytest.raises(ValueError, match="some of 2 uploads share an image_id; give each its own"):
        list(import_images([upload, upload], target_uri=target_uri, grid=GRID))


@pytest.mark.parametrize("name", ["ほ.png", "a\nb.png", "'quoted'.png", "x" * 1000, "", "../../etc/passwd"])
def test_a_name_is_only_text(tmp_path, target_uri, name):
    results = imported(store(tmp_path / "uploads", {name: GOOD}), target_uri)
    assert results[name].working_uri == f"{target_uri}/image-0.tif"


DISKS = draw_disks(HEIGHT, WIDTH, seed=3).mask
COLOURS = np.array([[0, 0, 0], [230, 159, 0], [86, 180, 233]], np.uint8)
CODED = {
    "index.png": (DISKS, IndexCoding()),
    "grey.png": (np.array([0, 128, 255], np.uint8)[DISKS], GreyCoding(classes={0: 0, 128: 1, 255: 2})),
    "colour.png": (
        COLOURS[DISKS],
        ColourCoding(classes={tuple(colour): k for k, colour in enumerate(COLOURS.tolist())}),
    ),
}


def mask_upload(folder, name, data, height=HEIGHT, width=WIDTH):
    (folder / "mask").write_bytes(data)
    return MaskUpload(image_id="a", uri=str(folder / "mask"), name=name, height=height, width=width)


def labels_of(upload, coding=IndexCoding(), num_classes=3, grid=GRID):
    [result] = import_masks([upload], coding=coding, num_classes=num_classes, grid=grid)
    return result


def mask_of(labels, grid=GRID):
    """The mask that the tiles render to; 255 where there is none."""
    planes = {(tile.row0, tile.col0): unpack(tile.annotation).plane() for tile in labels.tiles}
    windows = grid.windows(HEIGHT, WIDTH)
    blank = [np.full((window.height, window.width), 255, np.uint8) for window in windows]
    tiles = [planes.get((w.row0, w.col0), empty) for w, empty in zip(windows, blank, strict=True)]
    return np.block([tiles[row : row + 2] for row in range(0, len(tiles), 2)])


@pytest.mark.parametrize("name", CODED)
def test_a_mask_file_becomes_labels_that_render_to_it(tmp_path, name):
    values, coding = CODED[name]
    labels = labels_of(mask_upload(tmp_path, name, encoded(Image.fromarray(values))), coding)
    assert isinstance(labels, ImportedLabels)
    assert np.array_equal(mask_of(labels), DISKS)


def test_a_palette_mask_is_read_by_its_indices(tmp_path):
    data = with_palette(DISKS[..., None], COLOURS.tobytes())
    assert np.array_equal(mask_of(labels_of(mask_upload(tmp_path, "palette.png", data))), DISKS)


def test_labels_carry_the_checksum_and_the_pixels_of_their_tile(tmp_path):
    labels = labels_of(mask_upload(tmp_path, "m.png", encoded(Image.fromarray(DISKS))))
    first = labels.tiles[0]
    assert first.crc32 == crc32(DISKS[:64, :64])
    assert sum(first.counts.values()) == 64 * 64
    assert first.counts[2] == np.count_nonzero(DISKS[:64, :64] == 2)


def test_tiles_without_a_label_are_left_out(tmp_path):
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[69, 99] = 1
    labels = labels_of(mask_upload(tmp_path, "m.png", encoded(Image.fromarray(mask))))
    assert [(tile.row0, tile.col0, tile.counts) for tile in labels.tiles] == [(64, 64, {1: 1, 255: 6 * 36 - 1})]


@pytest.mark.parametrize(
    ("name", "data", "size", "message"),
    [
        (
            "small.png",
            encoded(Image.fromarray(DISKS[:-1])),
            (HEIGHT, WIDTH),
            "mask 'small.png' has 100 x 69 px but its image has 100 x 70 px; export the mask at the image's size",
        ),
        (
            "seven.png",
            encoded(Image.fromarray(np.full((HEIGHT, WIDTH), 7, np.uint8))),
            (HEIGHT, WIDTH),
            "mask 'seven.png' has class index 7 on 7000 px but there are 3 classes; relabel the mask or add the class",
        ),
        ("cut.png", GOOD[:500], (HEIGHT, WIDTH), "'cut.png' "),
        ("colour.png", GOOD, (HEIGHT, WIDTH), "mask 'colour.png' is in colour; give a table from colour to class"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_by_name(tmp_path, name, data, size, message):
    refusal = labels_of(mask_upload(tmp_path, name, data, *size))
    assert isinstance(refusal, Refusal)
    assert refusal.reason.startswith(message)


def test_a_mask_that_is_gone_is_refused_by_name(tmp_path):
    upload = MaskUpload(image_id="a", uri=str(tmp_path / "gone"), name="m.png", height=1, width=1)
    assert labels_of(upload).reason == "'m.png' is not in storage any more; send it again"


def test_masks_are_not_cut_by_tiles_that_overlap(tmp_path):
    with pytest.raises(ValueError, match="overlap is 8 px; import by tiles without overlap"):
        labels_of(mask_upload(tmp_path, "m.png", b""), grid=TileGrid(tile=64, overlap=8))


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (encoded(Image.fromarray(CODED["grey.png"][0])), [0, 128, 255]),
        (encoded(Image.fromarray(DISKS)), [0, 1, 2]),
        (GOOD, []),
    ],
    ids=["grey", "index", "colour"],
)
def test_a_survey_lists_the_values_of_a_mask(tmp_path, data, values):
    [survey] = survey_masks([mask_upload(tmp_path, "m.png", data)])
    assert (survey.name, survey.values) == ("m.png", values)


def test_a_survey_refuses_what_is_no_mask_by_name(tmp_path):
    [refusal] = survey_masks([mask_upload(tmp_path, "m.png", b"text")])
    assert refusal.reason.startswith("'m.png' ")
