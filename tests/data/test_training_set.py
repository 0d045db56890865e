"""What is chosen, how it is split, what is warned of, and the manifest that cannot change."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from axons.data.measuring import perceptual_hashes
from axons.data.storage import open_storage
from axons.data.training_set import (
    MANIFEST,
    ChosenImage,
    ChosenTile,
    FreezeRequest,
    assign_splits,
    check_request,
    diversity_of,
    leakage,
    load_training_set,
    warnings_of,
)
from axons.errors import ChecksumMismatch, TrainingSetNotFound, TrainingSetRefused
from tests.drawing import CLASSES, freeze_disks

ALL_CLASSES = {0: 50, 1: 30, 2: 20}


def image(name, *, counts=ALL_CLASSES, **fields):
    """A chosen image whose only tile has these pixels by value."""
    tile = ChosenTile(row0=0, col0=0, height=10, width=10, annotation=b"", crc32=0, counts=counts)
    known = {"working_uri": "nowhere", "height": 10, "width": 10, "channels": 1, "dtype": "uint8"}
    drawn = {"mean": [0.5], "std": [0.1], "tiles": [tile]}
    return ChosenImage(image_id=name, name=f"{name}.png", **{**known, **drawn, **fields})


def images(count, **fields):
    return [image(f"image-{number}", **fields) for number in range(count)]


def request(chosen, **settings):
    return FreezeRequest(name="nerves", classes=CLASSES, images=chosen, **settings)


def split(chosen, **settings):
    return assign_splits(chosen, request(chosen, **settings))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"train": 1}),
        (2, {"train": 1, "val": 1}),
        (3, {"train": 1, "val": 1, "test": 1}),
        (4, {"train": 2, "val": 1, "test": 1}),
        (20, {"train": 14, "val": 3, "test": 3}),
    ],
)
def test_train_gets_an_image_first_then_val_then_test(count, expected):
    assert Counter(split(images(count))) == expected


@given(
    groups=st.lists(st.sampled_from([None, "a", "b", "c", "d"]), min_size=1, max_size=30),
    seed=st.integers(0, 2**32),
    fractions=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_no_group_is_ever_in_two_splits_and_train_is_never_empty(groups, seed, fractions):
    chosen = [image(f"image-{number}", group=group) for number, group in enumerate(groups)]
    splits = split(chosen, seed=seed, fractions=fractions)
    places = {(group, place) for group, place in zip(groups, splits, strict=True) if group}
    assert len(places) == len({group for group in groups if group})
    assert "train" in splits


@given(count=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_split(count, seed):
    assert split(images(count), seed=seed) == split(images(count), seed=seed)


def test_another_seed_gives_another_split():
    splits = {tuple(split(images(20), seed=seed)) for seed in range(5)}
    assert len(splits) == 5


@given(fixed=st.lists(st.sampled_from([None, "train", "val", "test"]), min_size=1, max_size=12))
def test_what_a_person_has_set_stays(fixed):
    chosen = [image(f"image-{number}", split=place) for number, place in enumerate(fixed)]
    assert [place for place, wanted in zip(split(chosen), fixed, strict=True) if wanted] == [
        wanted for wanted in fixed if wanted
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_of_many_small_images_is_not_held_out(seed):
    small = images(7)
    large = image("large", counts={value: 20 * count for value, count in ALL_CLASSES.items()})
    assert split([*small, large], seed=seed, fractions=(0.7, 0.3, 0))[-1] == "train"


def test_a_group_follows_the_split_that_a_person_gave_to_one_of_its_images():
    chosen = [image("a", group="rat 1", split="test"), image("b", group="rat 1"), *images(6)]
    assert split(chosen)[:2] == ["test", "test"]


def test_a_split_that_a_person_has_filled_draws_no_more():
    chosen = [image("a", split="val"), image("b", split="test"), *images(10)]
    assert Counter(split(chosen)) == {"train": 10, "val": 1, "test": 1}


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [((1, 0, 0), {"train": 10}), ((0.8, 0.2, 0), {"train": 8, "val": 2}), ((0, 0, 1), {"train": 1, "test": 9})],
)
def test_a_split_without_a_share_stays_empty_but_for_train(fractions, expected):
    assert Counter(split(images(10), fractions=fractions)) == expected


@pytest.mark.parametrize("fractions", [(-0.1, 0.5, 0.6), (0.5, 0.5, 1.1), (0.7, float("nan"), 0.3)])
def test_a_share_that_is_none_is_refused(fractions):
    with pytest.raises(ValidationError, match="fractions"):
        request(images(3), fractions=fractions)


@pytest.mark.parametrize("seed", range(8))
def test_the_draw_is_preferred_in_which_train_knows_every_class(seed):
    chosen = [*images(9, counts={0: 100}), image("rare", counts={0: 90, 1: 5, 2: 5})]
    assert split(chosen, seed=seed)[-1] == "train"


@pytest.mark.parametrize("seed", range(8))
def test_then_the_draw_in_which_val_and_test_know_every_class(seed):
    chosen = [*images(7, counts={0: 100}), *(image(f"rich-{number}") for number in range(3))]
    assert sorted(split(chosen, seed=seed)[-3:]) == ["test", "train", "val"]


def test_images_without_labels_are_left_out():
    chosen = [image("a"), image("b", counts={255: 100}), image("c", counts={254: 60, 255: 40})]
    assert [kept.image_id for kept in check_request(request(chosen))] == ["a"]


@pytest.mark.parametrize(
    ("chosen", "settings", "message"),
    [
        ([], {}, "none of the 0 chosen images has a labelled tile; label at least one"),
        (
            images(2, counts={255: 90, 254: 10}),
            {},
            "none of the 2 chosen images has a labelled tile; label at least one",
        ),
        ([image("a", tiles=[])], {}, "none of the 1 chosen images has a labelled tile; label at least one"),
        (
            images(2, counts={0: 50, 2: 50}),
            {},
            "class 'ring' has no labelled pixel; label some or leave the class out",
        ),
        (
            [image("a"), image("b", counts={**ALL_CLASSES, 7: 1})],
            {},
            "mask of 'b.png' has class index 7 but training set 'nerves' has 3 classes; "
            "relabel the mask or add the class",
        ),
        (
            [image("a", pixel_size_um=0.1), image("b")],
            {"pixel_size_um": 0.2},
            "the pixel size of 'b.png' is unknown; enter it, or choose a scale instead",
        ),
        (
            [image("a", pixel_size_um=1.0)],
            {"pixel_size_um": 0.001},
            "'a.png' has 1.0 µm per pixel: at 0.001 µm it would be 1e+03 times its size; "
            "choose a pixel size that makes it 0.05 to 4.0 times",
        ),
        ([image("a"), image("a")], {}, "image 'a.png' is chosen twice; choose it once"),
    ],
)
def test_what_cannot_become_a_training_set_is_refused_with_the_reason(chosen, settings, message):
    with pytest.raises(TrainingSetRefused) as refusal:
        check_request(request(chosen, **settings))
    assert str(refusal.value) == message


def hashes(seed):
    return perceptual_hashes(np.random.default_rng(seed).integers(0, 256, (32, 32, 1), dtype=np.uint8))


def mirrored(seed):
    return perceptual_hashes(np.random.default_rng(seed).integers(0, 256, (32, 32, 1), dtype=np.uint8)[:, ::-1])


@pytest.mark.parametrize("copy", [hashes(1), mirrored(1)], ids=["same", "mirrored"])
def test_images_that_look_the_same_in_two_splits_are_warned_of(copy):
    chosen = [image("a", hashes=hashes(1)), image("b", hashes=hashes(2)), image("c", hashes=copy)]
    assert leakage(chosen, ["train", "train", "test"]) == [
        "'a.png' (train) and 'c.png' (test) look the same; put both in one split"
    ]


def test_images_that_look_the_same_in_one_split_are_no_leak():
    assert leakage([image("a", hashes=hashes(1)), image("b", hashes=hashes(1))], ["train", "train"]) == []


def test_a_group_that_a_person_has_put_in_two_splits_is_warned_of():
    chosen = [image("a", group="rat 1", split="train"), image("b", group="rat 1", split="val")]
    assert leakage(chosen, split(chosen)) == ["group 'rat 1' is in train and val; put its images in one split"]


@pytest.mark.parametrize(
    ("count", "warning"),
    [
        (
            1,
            [
                "with one image there is no validation: training cannot stop early and keeps its last weights; "
                "add a second image"
            ],
        ),
        (2, ["with 2 images the scores depend on which one is held out; use 4 or more"]),
        (3, ["with 3 images the scores depend on which one is held out; use 4 or more"]),
        (4, []),
    ],
)
def test_few_images_are_warned_of(count, warning):
    assert warnings_of(images(count), split(images(count))) == warning


def test_grey_beside_colour_is_warned_of():
    chosen = [*images(4), image("colour", channels=3, mean=[0.5] * 3, std=[0.1] * 3)]
    assert warnings_of(chosen, split(chosen)) == [
        "grey and colour images are mixed: the grey ones are shown to the network as colour"
    ]


def test_diversity_counts_sources_and_spans_brightness_and_pixel_sizes():
    found = diversity_of(
        [
            image("a", group="rat", mean=[0.2], pixel_size_um=0.2),
            image("b", group="rat", mean=[0.3, 0.4, 0.5], pixel_size_um=0.1),
            image("c", mean=[0.9], pixel_size_um=0.1),
        ]
    )
    assert (found.num_images, found.num_groups, found.pixel_sizes_um) == (3, 2, [0.1, 0.2])
    brightness = (found.brightness_min, found.brightness_median, found.brightness_max)
    assert brightness == pytest.approx((0.2, 0.4, 0.9))


@pytest.fixture
def frozen(tmp_path):
    return freeze_disks(tmp_path)


def test_a_training_set_loads_as_it_was_frozen(frozen):
    uri, training_set = frozen
    assert load_training_set(uri) == load_training_set(uri, sha256=training_set.sha256()) == training_set


def test_there_is_none_at_another_address(tmp_path):
    with pytest.raises(TrainingSetNotFound, match=re.escape(f"no training set at {tmp_path}; check the address")):
        load_training_set(str(tmp_path))


def test_another_training_set_than_the_one_asked_for_is_refused(frozen):
    uri, _ = frozen
    with pytest.raises(ChecksumMismatch, match="is not the one that was frozen: its sha256 differs"):
        load_training_set(uri, sha256="0" * 64)


def change(uri, edit):
    """Rewrite the manifest."""
    document = json.loads(open_storage(uri).read(MANIFEST))
    edit(document)
    open_storage(uri).replace(MANIFEST, json.dumps(document).encode())


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: document["training_set"].update(seed=1),
        lambda document: document["training_set"]["images"][0].update(split="val"),
        lambda document: document["training_set"]["shards"][0].update(sha256="0" * 64),
        lambda document: document.update(sha256="0" * 64),
        lambda document: document.pop("sha256"),
        lambda document: document.pop("training_set"),
    ],
    ids=["seed", "split", "shard", "other sha256", "no sha256", "no training set"],
)
def test_a_manifest_that_was_changed_is_refused(frozen, edit):
    change(frozen[0], edit)
    with pytest.raises(ChecksumMismatch):
        load_training_set(frozen[0])


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_manifest_that_is_cut_off_is_refused(frozen, share):
    storage = open_storage(frozen[0])
    data = storage.read(MANIFEST)
    storage.replace(MANIFEST, data[: int(share * len(data))])
    with pytest.raises(ChecksumMismatch, match="the manifest of training set .+ is damaged"):
        load_training_set(frozen[0])


def test_a_manifest_with_a_field_of_another_kind_is_refused_by_name(frozen):
    change(frozen[0], lambda document: document["training_set"].update(seed="seven"))
    with pytest.raises(TrainingSetRefused, match="is not readable: seed: "):
        load_training_set(frozen[0])


def test_the_records_of_a_split_are_those_of_its_images(frozen):
    _, training_set = frozen
    places = [training_set.images_of(split) for split in ("train", "val", "test")]
    assert places == [[0, 1], [2], [3]]
    assert [[record.image for record in training_set.records_of(s)] for s in ("train", "val", "test")] == places
