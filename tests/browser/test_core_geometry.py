"""Polygons in the browser: vertices, outlines of regions, union, subtraction and splitting."""

import random

import numpy as np
import pytest
from scipy import ndimage

from axons.data.layers import PolygonLayer, render
from tests.browser.core import blobs, rectangle, run

SHAPE = (40, 55)


def covered(rings: list[list[int]], shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """(H, W) of 0 and 1: what the server paints for these rings."""
    layer = PolygonLayer(value=1, rings=tuple(np.array(ring).reshape(-1, 2) for ring in rings))
    return (render([layer], *shape) == 1).astype(np.uint8)


def random_ring(rng: random.Random, count: int = 8) -> list[int]:
    return [rng.randint(-60, 16 * side + 60) for _ in range(count) for side in SHAPE]


@pytest.mark.parametrize("make", ["trace", "outline"])
def test_the_outline_of_a_region_renders_to_the_region(modules, make):
    masks = [blobs(seed, SHAPE, threshold=threshold) for seed in range(10) for threshold in (0.3, 0.5, 0.7)]
    rings = run(modules, f"return masks.map((mask) => lists(m.{make}(m.trim(regionOfRows(mask)))));", masks=masks)
    assert np.array_equal([covered(some) for some in rings], masks)


def test_a_traced_ring_runs_along_the_edges_of_pixels(modules):
    rings = run(modules, "return lists(m.trace(regionOfRows(mask)));", mask=blobs(4, SHAPE))
    assert {number % 16 for ring in rings for number in ring} == {0}


def test_tracing_keeps_pixels_that_touch_at_a_corner_apart(modules):
    rings = run(modules, "return lists(m.trace(regionOfRows([[1, 0], [0, 1]])));")
    assert sorted(map(len, rings)) == [8, 8]


def test_tracing_makes_a_ring_of_a_hole(modules):
    rings = run(modules, "return lists(m.trace(regionOfRows([[1, 1, 1], [1, 0, 1], [1, 1, 1]])));")
    assert len(rings) == 2
    assert covered(rings, (3, 3)).tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]


def test_the_outline_of_a_disc_has_less_than_a_third_of_the_vertices_of_its_trace(modules):
    row, col = np.mgrid[:100, :100]
    disc = ((row - 50) ** 2 + (col - 50) ** 2 < 40**2).astype(np.uint8)
    traced, outlined = run(
        modules,
        "return [m.trace, m.outline].map((make) => make(regionOfRows(disc))[0].length);",
        disc=disc,
    )
    assert outlined < traced / 3


def test_a_point_lies_inside_where_r1_paints(modules):
    rng = random.Random(3)
    polygons = [[random_ring(rng), rectangle(10, 10, 20, 30)] for _ in range(30)]
    inside = run(
        modules,
        """
        const [height, width] = shape;
        return polygons.map((rings) => Array.from({ length: height * width }, (_, i) => Number(
          m.contains(polygon(rings), 16 * Math.floor(i / width) + 8, 16 * (i % width) + 8))));
        """,
        polygons=polygons,
        shape=SHAPE,
    )
    assert np.array_equal(np.array(inside).reshape(-1, *SHAPE), [covered(rings) for rings in polygons])


def test_the_nearest_vertex_is_found_within_reach_only(modules):
    near, far = run(
        modules,
        """
        const layer = polygon([ring, hole]);
        return [m.nearestVertex(layer, 100, 118, 10), m.nearestVertex(layer, 100, 131, 10)];
        """,
        ring=rectangle(1, 1, 30, 30),
        hole=[100, 100, 100, 120, 130, 100],
    )
    assert near == {"ring": 1, "vertex": 1}
    assert far is None


def test_the_nearest_edge_tells_where_to_insert_a_vertex(modules):
    found, inserted, far = run(
        modules,
        """
        const layer = polygon([[0, 0, 0, 320, 320, 320]]);
        const found = m.nearestEdge(layer, 5, 100, 8);
        const inserted = m.insertVertex(layer, found.ring, found.after, found.row16, found.col16);
        return [found, lists(inserted.rings), m.nearestEdge(layer, 20, 100, 8)];
        """,
    )
    assert found == {"ring": 0, "after": 0, "row16": 0, "col16": 100}
    assert inserted == [[0, 0, 0, 100, 0, 320, 320, 320]]
    assert far is None


def test_the_edge_from_the_last_vertex_to_the_first_is_an_edge(modules):
    found = run(modules, "return m.nearestEdge(polygon([[0, 0, 0, 320, 320, 320, 320, 0]]), 150, 2, 8);")
    assert (found["after"], found["row16"], found["col16"]) == (3, 150, 0)


def test_moving_a_vertex_makes_a_new_layer_and_leaves_the_old(modules):
    old, new, is_same_id = run(
        modules,
        """
        const layer = polygon([[0, 0, 0, 320, 320, 320]]);
        const moved = m.moveVertex(layer, 0, 1, 5, 6);
        return [lists(layer.rings), lists(moved.rings), layer.id === moved.id];
        """,
    )
    assert (old, new) == ([[0, 0, 0, 320, 320, 320]], [[0, 0, 5, 6, 320, 320]])
    assert is_same_id


def test_removing_vertices_ends_with_the_ring_and_then_with_the_layer(modules):
    fewer, ring_gone, layer_gone = run(
        modules,
        """
        const layer = polygon([[0, 0, 0, 320, 320, 320, 320, 0], [16, 16, 16, 32, 32, 32]]);
        const fewer = m.removeVertex(layer, 0, 2);
        const ringGone = m.removeVertex(layer, 1, 0);
        return [lists(fewer.rings)[0], lists(ringGone.rings), m.removeVertex(m.removeVertex(ringGone, 0, 0), 0, 0)];
        """,
    )
    assert fewer == [0, 0, 0, 320, 320, 0]
    assert ring_gone == [[0, 0, 0, 320, 320, 320, 320, 0]]
    assert layer_gone is None


def test_a_polygon_moves_as_a_whole(modules):
    rings = run(modules, "return lists(m.translate(polygon([[0, 0, 0, 320, 320, 320]]), 16, -8).rings);")
    assert rings == [[16, -8, 16, 312, 336, 312]]


def test_an_added_ring_inside_is_a_hole(modules):
    rings = run(
        modules,
        "return lists(m.addRing(polygon([outer]), inner).rings);",
        outer=rectangle(2, 2, 20, 20),
        inner=rectangle(5, 5, 9, 9),
    )
    assert covered(rings).sum() == 18 * 18 - 4 * 4


def test_simplifying_stays_within_its_tolerance_and_keeps_both_ends(modules):
    angle = np.linspace(0, 3, 300)
    line = np.round(np.column_stack([400 + 350 * np.sin(angle), 400 * angle]).reshape(-1)).astype(int)
    simple = np.array(run(modules, "return Array.from(m.simplify(line, 16));", line=line)).reshape(-1, 2)
    points = line.reshape(-1, 2)
    rows = np.interp(points[:, 1], simple[:, 1], simple[:, 0])
    assert len(simple) < 20
    assert np.abs(rows - points[:, 0]).max() <= 16 * 1.5  # measured along rows, on a slope of at most 1
    assert simple[[0, -1]].tolist() == points[[0, -1]].tolist()


def test_a_box_is_a_rectangle(modules):
    assert run(modules, "return Array.from(m.boxRing(16, 32, 64, 80));") == rectangle(1, 2, 4, 5)


@pytest.mark.parametrize(
    ("ring", "crosses"),
    [
        (rectangle(1, 1, 9, 9), False),
        ([0, 0, 160, 160, 0, 160, 160, 0], True),
        ([0, 0, 0, 160, 160, 160], False),
        ([0, 0, 0, 160, 80, 160, 80, 80, 0, 80, 160, 0], False),  # only touches itself
        ([16, 128, 224, 48, 80, 240, 80, 16, 224, 208], True),
    ],
)
def test_a_ring_that_crosses_itself_is_noticed(modules, ring, crosses):
    assert run(modules, "return m.crossesItself(Int32Array.from(ring));", ring=ring) is crosses


def test_united_polygons_cover_what_each_covered(modules):
    rng = random.Random(1)
    cases = [[[random_ring(rng, 4)] for _ in range(3)] for _ in range(20)]
    united = run(
        modules,
        "return cases.map((all) => lists(m.uniteLayers(all.map((rings) => polygon(rings)), ...shape).rings));",
        cases=cases,
        shape=SHAPE,
    )
    assert np.array_equal(
        [covered(rings) for rings in united],
        [np.bitwise_or.reduce([covered(rings) for rings in polygons]) for polygons in cases],
    )


def test_united_polygons_have_the_value_that_covers_most(modules):
    value = run(
        modules,
        "return m.uniteLayers(boxes.map((box, i) => polygon([box], [1, 2, 2][i])), ...shape).value;",
        boxes=[rectangle(0, 0, 10, 10), rectangle(0, 8, 10, 17), rectangle(20, 20, 22, 22)],
        shape=SHAPE,
    )
    assert value == 1


def test_united_polygons_that_do_not_overlap_keep_their_vertices(modules):
    rings = [[5, 7, 100, 203, 200, 11], [300, 301, 301, 500, 500, 402]]
    united = run(
        modules,
        "return lists(m.uniteLayers(rings.map((ring) => polygon([ring])), ...shape).rings);",
        rings=rings,
        shape=SHAPE,
    )
    assert united == rings


@pytest.mark.parametrize(
    ("change", "expected"), [("uniteRing", np.bitwise_or), ("subtractRing", lambda a, b: a & (1 - b))]
)
def test_a_ring_is_added_to_a_polygon_or_taken_from_it(modules, change, expected):
    rng = random.Random(2)
    cases = [([random_ring(rng), rectangle(5, 5, 12, 30)], random_ring(rng, 4)) for _ in range(20)]
    changed = run(
        modules,
        f"return cases.map(([rings, ring]) => lists(m.{change}(polygon(rings), ring, ...shape)?.rings ?? []));",
        cases=cases,
        shape=SHAPE,
    )
    assert np.array_equal(
        [covered(rings) for rings in changed], [expected(covered(rings), covered([ring])) for rings, ring in cases]
    )


def test_a_ring_subtracted_inside_becomes_a_hole_and_the_outline_stays(modules):
    outer, inner = [3, 5, 10, 700, 500, 690, 600, 20], rectangle(8, 8, 12, 20)
    rings = run(
        modules,
        "return lists(m.subtractRing(polygon([outer]), inner, ...shape).rings);",
        outer=outer,
        inner=inner,
        shape=SHAPE,
    )
    assert rings == [outer, inner]


def test_a_polygon_of_which_all_is_subtracted_is_gone(modules):
    gone = run(
        modules,
        "return m.subtractRing(polygon([inner]), outer, ...shape);",
        outer=rectangle(1, 1, 20, 20),
        inner=rectangle(5, 5, 9, 9),
        shape=SHAPE,
    )
    assert gone is None


def test_a_region_is_added_to_a_polygon_and_taken_from_it(modules):
    mask, box = blobs(5, SHAPE), rectangle(4, 4, 30, 40)
    more, less = run(
        modules,
        """
        const region = m.trim(regionOfRows(mask));
        return [m.addRegion, m.subtractRegion].map((change) => lists(change(polygon([box]), region, ...shape).rings));
        """,
        mask=mask,
        box=box,
        shape=SHAPE,
    )
    assert np.array_equal(covered(more), mask | covered([box]))
    assert np.array_equal(covered(less), covered([box]) & (1 - mask))


def split(modules, cases: list[tuple[list[list[int]], list[int]]]) -> list[list[np.ndarray]]:
    """What the parts of each polygon cover after a line."""
    parts = run(
        modules,
        """
        return cases.map(([rings, line]) => (
          m.splitLayer(polygon(rings), line, ...shape).map((layer) => lists(layer.rings))));
        """,
        cases=cases,
        shape=SHAPE,
    )
    return [[covered(rings) for rings in case] for case in parts]


def test_a_line_across_a_box_makes_two_parts_on_its_two_sides(modules):
    (parts,) = split(modules, [([rectangle(5, 5, 25, 45)], [0, 16 * 20 + 3, 16 * 40, 16 * 20 + 3])])
    col = np.arange(SHAPE[1])
    box = covered([rectangle(5, 5, 25, 45)])
    assert np.array_equal(parts, [box & (col >= 20), box & (col < 20)])


def test_splitting_loses_no_pixel_and_gives_none_to_two_parts(modules):
    rng = random.Random(3)
    cases = [([random_ring(rng), random_ring(rng, 3)], random_ring(rng, 4)) for _ in range(40)]
    sums = [np.sum(parts, axis=0) for parts in split(modules, cases)]
    assert np.array_equal(sums, [covered(rings) for rings, _ in cases])


def test_a_straight_line_across_a_convex_polygon_makes_two_parts_of_one_piece_each(modules):
    rng = random.Random(4)
    ring = [100, 440, 200, 200, 500, 300, 560, 500, 300, 700]
    parts = split(modules, [([ring], line_through(rng, 320, 440)) for _ in range(40)])
    pieces = [[ndimage.label(part, np.ones((3, 3)))[1] for part in case] for case in parts]
    assert pieces == [[1, 1]] * 40


def line_through(rng: random.Random, row: int, col: int) -> list[int]:
    """A line in any direction, near a point."""
    angle = rng.uniform(0, np.pi)
    rows, cols = 1000 * np.cos(angle), 1000 * np.sin(angle)
    row, col = row + rng.randint(-60, 60), col + rng.randint(-60, 60)
    return [round(n) for n in (row - rows, col - cols, row + rows, col + cols)]


def test_a_line_that_ends_inside_divides_nothing(modules):
    (parts,) = split(modules, [([rectangle(5, 5, 25, 45)], [0, 320, 200, 320])])
    assert [part.sum() for part in parts] == [20 * 40]


def test_the_first_part_keeps_the_id_and_the_pieces_that_the_line_leaves_whole(modules):
    parts = run(
        modules,
        """
        const layer = m.polygonLayer({ value: 3, keep: [1], rings, id: "old", by: "ana", src: "import:a" });
        return m.splitLayer(layer, [0, 160, 640, 160], ...shape)
          .map((part) => ({ ...part, rings: lists(part.rings) }));
        """,
        rings=[rectangle(2, 2, 12, 15), rectangle(20, 30, 30, 40)],
        shape=SHAPE,
    )
    assert [covered(part["rings"]).sum() for part in parts] == [10 * 8 + 100, 10 * 5]
    assert parts[0]["id"] == "old" != parts[1]["id"]
    assert [(part["value"], part["keep"], part["by"], part["src"]) for part in parts] == [
        (3, [1], "ana", "import:a")
    ] * 2
