"""Labelled images become training sets: which pixels, which masks, which numbers; refused whole, or frozen for good."""

import json
import zlib

import numpy as np
import pytest

from axons.data.coco import read_coco
from axons.data.freezing import CELL, freeze
from axons.data.importing import MaskUpload, import_masks
from axons.data.layers import IGNORE_INDEX, Annotation, PolygonLayer, count_values, crc32, pack
from axons.data.masks import ColourCoding, GreyCoding, IndexCoding
from axons.data.pictures import encode_mask, encode_picture
from axons.data.resizing import resize_mask
from axons.data.shards import ShardReader
from axons.data.storage import open_storage
from axons.data.tiles import TileGrid
from axons.data.training_set import ChosenTile, FreezeRequest, LabelClass, load_training_set
from axons.errors import AnnotationRefused, TrainingSetRefused
from tests.drawing import CLASSES, Drawing, choose, draw_disks, freeze_here


def disks(folder, count=4, *, size=96, **options):
    """Images of drawn disks, chosen for a training set."""
    return [choose(folder, f"disks-{i}", draw_disks(size, size, seed=i), **options) for i in range(count)]


def ask(images, **settings):
    return FreezeRequest(**{"name": "disks", "classes": CLASSES, "window": 32, "images": images} | settings)


def frozen_here(folder, images, **settings):
    """The training set, and its records as (record, image, mask)."""
    training_set = freeze_here(ask(images, **settings), target_uri=str(folder / "set"))
    return training_set, read_back(str(folder / "set"), training_set)


def read_back(uri, training_set):
    reader = ShardReader(open_storage(uri), training_set)
    reader.fetch()
    return [(record, *reader.read(record)) for record in training_set.records]


def with_tile(image, annotation):
    """The image with this annotation as its only label."""
    plane = annotation.plane()
    tile = ChosenTile(
        row0=0,
        col0=0,
        height=annotation.height,
        width=annotation.width,
        annotation=pack(annotation),
        crc32=crc32(plane),
        counts=count_values(plane),
        revision=7,
    )
    return image.model_copy(update={"tiles": [tile]})


TRIANGLE = np.array([[100, 100], [1500, 300], [400, 1600]])  # in sixteenths of a pixel


def test_a_triangle_becomes_a_mask_of_its_area(tmp_path):
    whole = PolygonLayer(value=0, rings=(np.array([[0, 0], [0, 2048], [2048, 2048], [2048, 0]]),))
    annotation = Annotation(height=128, width=128, layers=(whole, PolygonLayer(value=1, rings=(TRIANGLE,))))
    image = choose(tmp_path, "triangle", Drawing(image=np.zeros((128, 128, 1), np.uint8), mask=annotation.plane()))
    training_set, [(_, _, mask)] = frozen_here(tmp_path, [with_tile(image, annotation)], classes=CLASSES[:2])
    (r0, c0), (r1, c1), (r2, c2) = corners = TRIANGLE / 16
    area = abs((r1 - r0) * (c2 - c0) - (r2 - r0) * (c1 - c0)) / 2
    outline = np.hypot(*(corners - np.roll(corners, 1, axis=0)).T).sum()
    assert abs(np.count_nonzero(mask == 1) - area) <= outline
    assert training_set.balance.pixels["train"] == [np.count_nonzero(mask == 0), np.count_nonzero(mask == 1)]
    assert training_set.images[0].revisions == [(0, 0, 7, zlib.crc32(mask.tobytes()))]


SIZE = 96
TRUTH = draw_disks(SIZE, SIZE, seed=0)
COLOURS = [label_class.colour for label_class in CLASSES]
PALETTE = np.array([list(bytes.fromhex(colour[1:])) for colour in COLOURS], np.uint8)
MASK_FILES = {
    "index": (encode_mask(TRUTH.mask, ["#000000", "#010101", "#020202"]), IndexCoding()),
    "palette": (encode_mask(TRUTH.mask, COLOURS), IndexCoding()),
    "grey": (
        encode_picture(np.array([0, 128, 255], np.uint8)[TRUTH.mask]),
        GreyCoding(classes={0: 0, 128: 1, 255: 2}),
    ),
    "colour": (
        encode_picture(PALETTE[TRUTH.mask]),
        ColourCoding(classes={tuple(colour): k for k, colour in enumerate(PALETTE.tolist())}),
    ),
}


@pytest.mark.parametrize("kind", MASK_FILES)
def test_an_imported_mask_is_frozen_exactly(tmp_path, local_ray, kind):
    data, coding = MASK_FILES[kind]
    (tmp_path / "mask").write_bytes(data)
    upload = MaskUpload(image_id="a", uri=str(tmp_path / "mask"), name="a.png", height=SIZE, width=SIZE)
    [labels] = import_masks([upload], coding=coding, num_classes=3, grid=TileGrid(tile=SIZE))
    [tile] = [ChosenTile(**tile.model_dump(), height=SIZE, width=SIZE) for tile in labels.tiles]
    image = choose(tmp_path, "a", TRUTH).model_copy(update={"tiles": [tile]})
    _, [(_, _, mask)] = frozen_here(tmp_path, [image])
    assert np.array_equal(mask, TRUTH.mask)


def column_runs(mask):
    """A mask as COCO's uncompressed runs: down the columns, background first."""
    flat = np.concatenate([[0], mask.T.reshape(-1), [0]]).astype(int)
    edges = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()


def test_coco_annotations_are_frozen_exactly(tmp_path):
    segmentations = [{"size": [SIZE, SIZE], "counts": column_runs(TRUTH.mask == k)} for k in range(3)]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE, "width": SIZE}],
        "categories": [{"id": k, "name": label_class.name} for k, label_class in enumerate(CLASSES)],
        "annotations": [{"image_id": 1, "category_id": k, "segmentation": s} for k, s in enumerate(segmentations)],
    }
    (tmp_path / "coco.json").write_text(json.dumps(document))
    [found] = read_coco(
        tmp_path / "coco.json", {label_class.name: index for index, label_class in enumerate(CLASSES)}, name="coco.json"
    )
    _, [(_, _, mask)] = frozen_here(
        tmp_path,
        [
            with_tile(
                choose(tmp_path, "a", TRUTH),
                Annotation(height=TRUTH.mask.shape[0], width=TRUTH.mask.shape[1], layers=found.layers),
            )
        ],
    )
    assert np.array_equal(mask, TRUTH.mask)


def test_ignored_pixels_are_not_learnt_from(tmp_path):
    mask = TRUTH.mask.copy()
    mask[:20] = 254
    _, [(record, _, frozen)] = frozen_here(tmp_path, [choose(tmp_path, "a", Drawing(image=TRUTH.image, mask=mask))])
    assert (frozen[:20] == IGNORE_INDEX).all()
    assert record.labelled_pixels == SIZE * (SIZE - 20)


def relabelled(folder, image):
    """The same image with another label on one pixel."""
    mask = TRUTH.mask.copy()
    mask[0, 0] = (mask[0, 0] + 1) % 3
    other = choose(folder, image.image_id, Drawing(image=TRUTH.image, mask=mask))
    return other.model_copy(update={"working_uri": image.working_uri})


def test_a_frozen_set_stays_when_its_labels_change_later(tmp_path):
    image = choose(tmp_path / "images", "disks", TRUTH)
    old_uri, new_uri = str(tmp_path / "old"), str(tmp_path / "new")
    old = freeze_here(ask([image]), target_uri=old_uri)
    new = freeze_here(ask([relabelled(tmp_path / "later", image)]), target_uri=new_uri)
    assert new.sha256() != old.sha256()
    assert load_training_set(old_uri, sha256=old.sha256()) == old
    [(_, _, mask)] = read_back(old_uri, old)
    assert np.array_equal(mask, TRUTH.mask)
    [(_, _, mask)] = read_back(new_uri, new)
    assert np.count_nonzero(mask != TRUTH.mask) == 1


def test_freezing_twice_changes_nothing(tmp_path):
    request, uri = ask(disks(tmp_path)), str(tmp_path / "set")
    first = freeze_here(request, target_uri=uri)
    before = open_storage(uri).list_objects()
    assert freeze_here(request, target_uri=uri) == first
    assert open_storage(uri).list_objects() == before


def test_another_set_is_not_frozen_over_one_that_lies_there(tmp_path):
    image, uri = choose(tmp_path / "images", "disks", TRUTH), str(tmp_path / "set")
    old = freeze_here(ask([image]), target_uri=uri)
    with pytest.raises(TrainingSetRefused, match="another training set lies at .+; freeze to a new address"):
        freeze_here(ask([relabelled(tmp_path / "later", image)]), target_uri=uri)
    assert load_training_set(uri, sha256=old.sha256()) == old


def test_a_refused_set_does_not_take_with_it_one_that_lies_there(tmp_path):
    image, uri = choose(tmp_path, "disks", TRUTH), str(tmp_path / "set")
    old = freeze_here(ask([image]), target_uri=uri)
    with pytest.raises(AnnotationRefused):
        freeze_here(ask([with_wrong_checksum(image)]), target_uri=uri)
    assert len(read_back(uri, load_training_set(uri, sha256=old.sha256()))) == 1


def with_wrong_checksum(image):
    return image.model_copy(update={"tiles": [tile.model_copy(update={"crc32": 1}) for tile in image.tiles]})


@pytest.mark.parametrize("place", ["tmp_path", "s3_uri"])
def test_the_cluster_freezes_the_same_set_as_one_process(tmp_path, local_ray, place, request):
    wanted = ask(disks(tmp_path, 6, size=300, tile=100))
    uri = f"{request.getfixturevalue(place)}/cluster"
    training_set = freeze(wanted, target_uri=uri)
    here = freeze_here(wanted, target_uri=str(tmp_path / "here"))
    assert training_set.sha256() == here.sha256()
    assert load_training_set(uri, sha256=here.sha256()) == here
    assert contents(uri) == contents(tmp_path / "here")


def contents(uri):
    storage = open_storage(uri)
    return {stored.key: storage.read(stored.key) for stored in storage.list_objects()}


@pytest.mark.parametrize("place", ["tmp_path", "s3_uri"])
@pytest.mark.parametrize("folder", ["set", "my data/set", "Präparate"])
def test_a_label_that_renders_to_another_checksum_is_refused_and_nothing_is_left(tmp_path, place, folder, request):
    images = [*disks(tmp_path / "images", 3), with_wrong_checksum(choose(tmp_path / "images", "bad", TRUTH))]
    uri = f"{request.getfixturevalue(place)}/{folder}"
    with pytest.raises(AnnotationRefused) as refusal:
        freeze_here(ask(images), target_uri=uri)
    assert str(refusal.value) == (
        "tile (0, 0) of 'bad.png' renders to another checksum than was saved; open and save it again"
    )
    assert open_storage(uri).list_objects() == []


def test_a_refusal_reaches_through_the_cluster(tmp_path, local_ray):
    with pytest.raises(AnnotationRefused, match=r"^tile \(0, 0\) of 'disks-0\.png' renders to another checksum"):
        freeze(ask([with_wrong_checksum(image) for image in disks(tmp_path)]), target_uri=str(tmp_path / "set"))
    assert open_storage(tmp_path / "set").list_objects() == []


def test_a_class_that_only_val_knows_is_refused_and_nothing_is_left(tmp_path):
    rings = Drawing(image=TRUTH.image, mask=np.minimum(TRUTH.mask, 1))
    images = [choose(tmp_path, "rings", rings, split="train"), choose(tmp_path, "all", TRUTH, split="val")]
    with pytest.raises(TrainingSetRefused) as refusal:
        freeze_here(ask(images), target_uri=str(tmp_path / "set"))
    assert str(refusal.value) == (
        "class 'core' has no labelled pixel in the training images; label some there or change the split"
    )
    assert open_storage(tmp_path / "set").list_objects() == []


def test_a_class_that_vanishes_at_a_small_scale_is_refused(tmp_path):
    mask = np.zeros((100, 100), np.uint8)
    mask[0, 0] = 1
    image = choose(tmp_path, "dot", Drawing(image=np.zeros((100, 100, 1), np.uint8), mask=mask))
    with pytest.raises(TrainingSetRefused) as refusal:
        freeze_here(ask([image], classes=CLASSES[:2], scale=0.1), target_uri=str(tmp_path / "set"))
    assert str(refusal.value) == (
        "class 'ring' has no pixel left at the size of this training set; choose a larger scale"
    )


def painted(height, width, *, dtype=np.uint8, channels=1, share=1.0):
    """Noise under stripes of three classes, unlabelled but for a `share` of its 50-px squares."""
    rng = np.random.default_rng(height * width)
    image = rng.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)
    rows, cols = np.mgrid[:height, :width]
    mask = ((rows // 3 + cols // 5) % 3).astype(np.uint8)
    squares = rng.random((-(-height // 50), -(-width // 50))) < share
    labelled = squares.repeat(50, axis=0).repeat(50, axis=1)[:height, :width]
    return Drawing(image=image, mask=np.where(labelled, mask, np.uint8(IGNORE_INDEX)))


def paste(records, shape):
    """How often each pixel of an image is a record's own, and the image and mask put together from its records."""
    times, together, seen = np.zeros(shape, int), np.full(shape, IGNORE_INDEX, np.uint8), np.zeros(shape, int)
    for record, image, mask in records:
        place, labelled = record.window.slices, mask != IGNORE_INDEX
        times[place] += labelled
        together[place][labelled] = mask[labelled]
        seen[place] = image[..., 0]
    return times, together, seen


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("height", "width", "share"),
    [(5, 7, 1.0), (65, 701, 0.3), (333, 129, 0.1), (CELL, CELL, 1.0), (CELL + 1, 2 * CELL + 77, 0.05)],
)
def test_records_hold_the_labels_and_the_pixels_of_their_image(tmp_path, height, width, share, split):
    drawing = painted(height, width, share=share)
    first = choose(tmp_path, "first", painted(50, 50))
    image = choose(tmp_path, "image", drawing, tile=100, split=split)
    _, records = frozen_here(tmp_path, [first.model_copy(update={"split": "train"}), image])
    times, together, seen = paste([row for row in records if row[0].image == 1], drawing.mask.shape)
    assert np.array_equal(together, drawing.mask)
    assert np.array_equal(seen[times > 0], drawing.image[..., 0][times > 0])


@pytest.mark.parametrize(
    ("height", "width", "share"),
    [(5, 7, 1.0), (65, 701, 0.3), (CELL + 1, 2 * CELL + 77, 0.05), (1100, 1100, 1.0)],
)
def test_each_labelled_pixel_counts_in_exactly_one_record(tmp_path, height, width, share):
    drawing = painted(height, width, share=share)
    image = choose(tmp_path, "image", drawing, tile=100)
    training_set, _ = frozen_here(tmp_path, [image])
    counts = np.bincount(drawing.mask.reshape(-1), minlength=256)[:3].tolist()
    assert np.sum([record.class_pixels for record in training_set.records], axis=0).tolist() == counts
    assert training_set.balance.pixels["train"] == counts


def test_each_point_is_drawn_from_one_record_only(tmp_path):
    drawing = painted(CELL + 60, 2 * CELL, share=1.0)
    training_set, _ = frozen_here(tmp_path, [choose(tmp_path, "image", drawing, tile=256)])
    reader = ShardReader(open_storage(tmp_path / "set"), training_set)
    cells = [
        {tuple(place) for place in (reader.points(r)[:, 1:] + [r.row0, r.col0]) // CELL} for r in training_set.records
    ]
    assert cells == [{(0, 0)}, {(0, 1)}, {(1, 0)}, {(1, 1)}]


def test_labels_in_the_context_of_a_training_record_are_learnt_from_there_too(tmp_path):
    drawing = painted(200, 2 * CELL)
    _, [(left, _, mask), (right, _, _)] = frozen_here(tmp_path, [choose(tmp_path, "image", drawing, tile=256)])
    assert (left.window.width, right.window.col0) == (CELL + 128, CELL - 128)
    assert np.array_equal(mask, drawing.mask[:, : CELL + 128])


def test_an_image_above_16_mpx_is_scored_pixel_by_pixel_once(tmp_path):
    drawing = painted(4001, 4000, share=0.02)
    first = choose(tmp_path, "first", painted(50, 50), split="train")
    image = choose(tmp_path, "large", drawing, tile=250, split="val")
    _, records = frozen_here(tmp_path, [first, image])
    times, together, _ = paste([row for row in records if row[0].image == 1], drawing.mask.shape)
    assert times.max() == 1
    assert np.array_equal(together, drawing.mask)


def test_a_training_record_is_the_box_of_its_labels_with_context(tmp_path):
    mask = np.full((900, 1000), IGNORE_INDEX, np.uint8)
    mask[300:310, 40:60] = np.arange(20) % 3
    image = choose(tmp_path, "image", Drawing(image=np.zeros((900, 1000, 1), np.uint8), mask=mask))
    training_set, _ = frozen_here(tmp_path, [image])
    [record] = training_set.records
    assert (record.row0, record.col0, record.height, record.width) == (300 - 128, 0, 10 + 256, 60 + 128)


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_image_that_is_scored_is_one_record_whole(tmp_path, split):
    images = [choose(tmp_path, "first", TRUTH, split="train"), choose(tmp_path, "held out", TRUTH, split=split)]
    training_set, _ = frozen_here(tmp_path, images)
    [record] = training_set.records_of(split)
    assert (record.height, record.width) == (SIZE, SIZE)


def test_16_bit_images_keep_their_depth(tmp_path):
    drawing = painted(90, 80, dtype=np.uint16)
    _, [(_, image, _)] = frozen_here(tmp_path, [choose(tmp_path, "deep", drawing)])
    assert image.dtype == np.uint16
    assert np.array_equal(image, drawing.image)


def test_grey_images_beside_colour_are_colour(tmp_path):
    grey, colour = painted(60, 60), painted(60, 61, channels=3)
    images = [choose(tmp_path, "grey", grey, split="train"), choose(tmp_path, "colour", colour, split="train")]
    training_set, [(_, first, _), (_, second, _)] = frozen_here(tmp_path, images)
    assert training_set.channels == 3
    assert np.array_equal(first, np.repeat(grey.image, 3, axis=2))
    assert np.array_equal(second, colour.image)


@pytest.mark.parametrize(("scale", "side"), [(0.5, 48), (2.0, 192), (0.33, 32), (1.0, 96)])
def test_records_have_the_size_of_the_scale_and_masks_stay_indices(tmp_path, scale, side):
    training_set, [(record, image, mask)] = frozen_here(tmp_path, [choose(tmp_path, "a", TRUTH)], scale=scale)
    assert image.shape == (side, side, 1)
    assert np.array_equal(mask, resize_mask(TRUTH.mask, side, side))
    assert record.class_pixels == np.bincount(mask.reshape(-1), minlength=3).tolist()
    assert (training_set.images[0].height, training_set.images[0].scale) == (side, scale)


def test_images_of_several_pixel_sizes_are_brought_to_one(tmp_path):
    images = [
        choose(tmp_path, "fine", TRUTH, pixel_size_um=0.1, split="train"),
        choose(tmp_path, "coarse", TRUTH, pixel_size_um=0.4, split="train"),
    ]
    training_set, records = frozen_here(tmp_path, images, pixel_size_um=0.2)
    assert [image.shape[0] for _, image, _ in records] == [SIZE // 2, 2 * SIZE]
    assert [frozen.pixel_size_um for frozen in training_set.images] == pytest.approx([0.2, 0.2])
    assert {value for _, _, mask in records for value in np.unique(mask)} == {0, 1, 2}


def test_balance_counts_the_labelled_pixels_at_the_size_of_the_images(tmp_path):
    splits = ["train", "train", "val", "test"]
    drawings = [draw_disks(SIZE, SIZE, seed=i) for i in range(4)]
    images = [choose(tmp_path, str(i), drawings[i], split=splits[i]) for i in range(4)]
    training_set, _ = frozen_here(tmp_path, images, scale=0.5)
    counts = [np.bincount(drawing.mask.reshape(-1), minlength=3) for drawing in drawings]
    assert training_set.balance.pixels == {
        "train": (counts[0] + counts[1]).tolist(),
        "val": counts[2].tolist(),
        "test": counts[3].tolist(),
    }


def disks_at(centres, height, width, *, radius=20):
    """Rings with a core around each centre."""
    rows, cols = np.mgrid[:height, :width]
    distance = np.min([np.hypot(rows - row, cols - col) for row, col in centres], axis=0)
    mask = np.where(distance < radius, 1, 0) + np.where(distance < radius / 2, 1, 0)
    return Drawing(image=mask.astype(np.uint8)[..., None] * 100, mask=mask.astype(np.uint8))


@pytest.mark.parametrize(
    ("centres", "height", "width"),
    [
        ([(30, 30), (30, 90), (100, 60)], 140, 130),
        ([(0, 0), (139, 129)], 140, 130),
        ([(64, 64)], 128, 128),
        ([(100, CELL), (100, CELL - 200), (CELL, 500), (CELL, CELL), (CELL + 50, CELL + 80)], CELL + 120, CELL + 130),
    ],
    ids=["inside", "cut by the border", "across tiles", "across cells"],
)
def test_balance_counts_the_objects_that_were_drawn(tmp_path, centres, height, width):
    image = choose(tmp_path, "disks", disks_at(centres, height, width), tile=64)
    training_set, _ = frozen_here(tmp_path, [image])
    assert training_set.balance.objects == {
        "train": [0, len(centres), len(centres)],
        "val": [0, 0, 0],
        "test": [0, 0, 0],
    }


def test_mean_and_std_are_those_of_all_training_pixels(tmp_path):
    drawings = [painted(50, 60), painted(90, 30), painted(40, 40)]
    splits = ["train", "train", "val"]
    images = [choose(tmp_path, str(i), drawings[i], split=splits[i]) for i in range(3)]
    training_set, _ = frozen_here(tmp_path, images)
    pixels = np.concatenate([drawing.image.reshape(-1) for drawing in drawings[:2]]) / 255
    assert training_set.mean == pytest.approx([pixels.mean()])
    assert training_set.std == pytest.approx([pixels.std()])


def test_a_set_tells_its_split_its_sources_and_its_warnings(tmp_path):
    images = [choose(tmp_path, f"{i}", painted(40, 40 + i), group=f"rat {i % 2}") for i in range(2)]
    training_set, _ = frozen_here(tmp_path, images)
    assert sorted(image.split for image in training_set.images) == ["train", "val"]
    assert (training_set.diversity.num_images, training_set.diversity.num_groups) == (2, 2)
    assert training_set.warnings == ["with 2 images the scores depend on which one is held out; use 4 or more"]


def test_the_same_request_and_another_seed_make_different_sets(tmp_path):
    images = disks(tmp_path / "images")
    seeds = [7, 7, 8]
    sets = [freeze_here(ask(images, seed=seed), target_uri=str(tmp_path / str(i))) for i, seed in enumerate(seeds)]
    first, second, other = (training_set.sha256() for training_set in sets)
    assert first == second != other


def test_names_and_groups_are_only_text(tmp_path):
    name = "Ratte ほ\n'3'"
    image = choose(tmp_path, "a", TRUTH, group=name).model_copy(update={"name": name})
    classes = [LabelClass(name=f"{name} {k}", colour="#000000") for k in range(3)]
    training_set, _ = frozen_here(tmp_path, [image], classes=classes, name=name)
    assert load_training_set(str(tmp_path / "set")) == training_set
    assert (training_set.name, training_set.images[0].name, training_set.images[0].group) == (name, name, name)


def test_one_pixel_can_be_frozen(tmp_path):
    images = [choose(tmp_path, "a", TRUTH, split="train"), choose(tmp_path, "b", painted(1, 1), split="val")]
    training_set, records = frozen_here(tmp_path, images, scale=0.05)
    assert records[1][1].shape == (1, 1, 1)
    assert training_set.images[1].height == 1
