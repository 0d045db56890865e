"""What tools choose: fill, wand, parts, holes, superpixels."""

import numpy as np
import pytest
from scipy import ndimage

from tests.browser.core import blobs, pixels, run

SHAPE = (40, 55)
EIGHT = np.ones((3, 3), int)


def disc(radius: int) -> np.ndarray:
    row, col = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return row**2 + col**2 <= radius**2


def piece_at(mask: np.ndarray, row: int, col: int, structure: np.ndarray | None = None) -> np.ndarray:
    labels, _ = ndimage.label(mask, structure)
    return labels == labels[row, col]


def picture(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """(H, W, 4) uint8: smooth colours with some noise."""
    rng = np.random.default_rng(seed)
    colours = ndimage.gaussian_filter(rng.normal(size=(*shape, 3)), (4, 4, 0))
    colours = 128 + 50 * colours / colours.std() + rng.normal(size=(*shape, 3)) * 3
    return np.dstack([np.clip(colours, 0, 255), np.full(shape, 255)]).astype(np.uint8)


@pytest.mark.parametrize(("tool", "structure"), [("fillRegion", None), ("part", EIGHT)])
@pytest.mark.parametrize("seed", range(4))
def test_fill_takes_four_connected_and_part_eight_connected_pixels_of_one_value(modules, tool, structure, seed):
    plane = np.random.default_rng(seed).integers(0, 3, SHAPE, dtype=np.uint8) * blobs(seed, SHAPE)
    row, col = 20, 30
    region = run(
        modules,
        f"return pixels(m.{tool}(Uint8Array.from(plane.flat()), ...shape, row, col), shape);",
        plane=plane,
        shape=SHAPE,
        row=row,
        col=col,
    )
    assert np.array_equal(pixels(region, SHAPE), piece_at(plane == plane[row, col], row, col, structure))


@pytest.mark.parametrize("tolerance", [0, 10, 40, 255])
def test_the_wand_takes_the_connected_pixels_of_a_similar_colour(modules, tolerance):
    image = picture(1, SHAPE)
    region = run(
        modules,
        "return pixels(m.wand(Uint8ClampedArray.from(image), ...shape, 11, 13, tolerance), shape);",
        image=image.reshape(-1),
        shape=SHAPE,
        tolerance=tolerance,
    )
    is_near = np.abs(image[..., :3].astype(int) - image[11, 13, :3]).max(axis=2) <= tolerance
    assert np.array_equal(pixels(region, SHAPE), piece_at(is_near, 11, 13))


def test_a_larger_tolerance_of_the_wand_never_loses_a_pixel(modules):
    regions = run(
        modules,
        """
        const rgba = Uint8ClampedArray.from(image);
        return Array.from({ length: 256 }, (_, tolerance) => pixels(m.wand(rgba, ...shape, 11, 13, tolerance), shape));
        """,
        image=picture(2, SHAPE).reshape(-1),
        shape=SHAPE,
    )
    assert (np.diff(np.array(regions), axis=0) >= 0).all()


def test_the_wand_stays_within_its_radius(modules):
    region = run(
        modules,
        "return pixels(m.wand(new Uint8ClampedArray(4 * 40 * 55), ...shape, 11, 13, 0, 9), shape);",
        shape=SHAPE,
    )
    row, col = np.mgrid[: SHAPE[0], : SHAPE[1]]
    assert np.array_equal(pixels(region, SHAPE), (row - 11) ** 2 + (col - 13) ** 2 <= 81)


def test_the_pixels_of_a_value_are_found_in_the_tile_and_in_a_rect(modules):
    plane = np.random.default_rng(6).integers(0, 3, SHAPE, dtype=np.uint8)
    whole, part, none = run(
        modules,
        """
        const flat = Uint8Array.from(plane.flat());
        const rect = { row0: 5, col0: 7, row1: 12, col1: 20 };
        return [m.withValue(flat, ...shape, 2), m.withValue(flat, ...shape, 2, rect), m.withValue(flat, ...shape, 9)]
          .map((region) => region && pixels(region, shape));
        """,
        plane=plane,
        shape=SHAPE,
    )
    box = np.zeros(SHAPE, bool)
    box[5:12, 7:20] = True
    assert np.array_equal(pixels(whole, SHAPE), plane == 2)
    assert np.array_equal(pixels(part, SHAPE), (plane == 2) & box)
    assert none is None


def test_regions_are_united(modules):
    a, b = blobs(1, SHAPE), blobs(2, SHAPE)
    both, one, none = run(
        modules,
        """
        const [first, second] = [a, b].map((mask) => m.trim(regionOfRows(mask)));
        return [m.unite(first, second), m.unite(null, first), m.unite(null, null)]
          .map((region) => region && pixels(region, shape));
        """,
        a=a,
        b=b,
        shape=SHAPE,
    )
    assert np.array_equal(pixels(both, SHAPE), a | b)
    assert np.array_equal(pixels(one, SHAPE), a)
    assert none is None


def test_protected_values_are_left_out_of_a_region(modules):
    mask, plane = blobs(1, SHAPE), np.random.default_rng(2).integers(0, 4, SHAPE, dtype=np.uint8)
    left, count = run(
        modules,
        """
        const region = m.without(m.trim(regionOfRows(mask)), Uint8Array.from(plane.flat()), 55, new Set([1, 3]));
        return [pixels(region, shape), m.countInside(region)];
        """,
        mask=mask,
        plane=plane,
        shape=SHAPE,
    )
    assert np.array_equal(pixels(left, SHAPE), mask & (plane % 2 == 0))
    assert count == np.sum(left)


@pytest.mark.parametrize(("shape", "size"), [((64, 64), 8), ((61, 130), 12), ((5, 7), 16), ((200, 200), 20)])
def test_superpixels_are_numbered_without_gaps_and_each_is_one_piece(modules, shape, size):
    labels = run(
        modules,
        "return Array.from(m.superpixels(Uint8ClampedArray.from(image), ...shape, size));",
        image=picture(3, shape).reshape(-1),
        shape=shape,
        size=size,
    )
    labels = np.array(labels).reshape(shape)
    found = np.unique(labels)
    assert found.tolist() == list(range(len(found)))
    assert [ndimage.label(labels == label)[1] for label in found] == [1] * len(found)


def test_there_are_about_as_many_superpixels_as_their_size_says(modules):
    count = run(
        modules,
        "return new Set(m.superpixels(Uint8ClampedArray.from(image), 160, 160, 10)).size;",
        image=picture(3, (160, 160)).reshape(-1),
    )
    assert 0.6 * 256 < count < 1.6 * 256


def test_superpixels_follow_an_edge(modules):
    image = np.full((64, 64, 4), 255, np.uint8)
    row, col = np.mgrid[:64, :64]
    is_dark = (row - 30) ** 2 + (col - 33) ** 2 < 400
    image[is_dark, :3] = 40
    labels = run(
        modules,
        "return Array.from(m.superpixels(Uint8ClampedArray.from(image), 64, 64, 8));",
        image=image.reshape(-1),
    )
    share = ndimage.mean(is_dark, np.array(labels).reshape(64, 64), np.unique(labels))
    assert set(share) == {0, 1}


def test_the_worker_answers_with_the_labels_their_number_and_the_token(modules):
    answer = run(
        modules,
        """
        const worker = new Worker("/static/annotator/superpixel-worker.js", { type: "module" });
        const rgba = Uint8ClampedArray.from(image);
        const answer = await new Promise((resolve) => {
          worker.onmessage = ({ data }) => resolve(data);
          worker.postMessage({ rgba, height: 48, width: 64, size: 8, token: 17 });
        });
        worker.terminate();
        const labels = m.superpixels(rgba, 48, 64, 8);
        const isSame = labels.every((label, i) => label === answer.labels[i]);
        return { isSame, token: answer.token, isCounted: answer.count === new Set(labels).size };
        """,
        image=picture(4, (48, 64)).reshape(-1),
    )
    assert answer == {"isSame": True, "token": 17, "isCounted": True}
