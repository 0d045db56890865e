"""Rule R1, the document and the brush in the browser, against NumPy."""

import base64
import json
import random
import zlib
from pathlib import Path

import numpy as np
import pytest

from axons.data.layers import MaskLayer, annotation_of, from_json, to_json
from tests.browser.core import pixels, rectangle, run

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "r1.json").read_text())
SHAPE = (48, 64)

# What the page does with a step of a person: paint it, note it in a layer, and render anew what has changed.
PLAY = """
const [height, width] = shape;
const plane = m.render([], height, width);
const layers = [];
const base64 = (bytes) => btoa(String.fromCharCode(...bytes));
const stroke = ({ ends, radius, value, protect }) => {
  let region = m.capsule(...ends, radius, height, width);
  if (!region) return null;
  region = m.without(region, plane, width, new Set(protect));
  if (layers.at(-1)?.values?.length !== plane.length) {
    layers.push(m.maskLayer({ rect: tile(shape), values: new Uint8Array(height * width).fill(m.SEE_THROUGH) }));
  }
  m.within(region, tile(shape)).inside.forEach((isInside, i) => {
    if (isInside) layers.at(-1).values[i] = value;
  });
  return region.rect;
};
const add = (layer) => {
  layers.push(layer);
  return m.boundsOf(layer, height, width);
};
const doing = {
  stroke,
  polygon: ({ value, rings, keep }) => add(m.polygonLayer({ value, rings, keep })),
  mask: ({ rect, values }) => add(m.maskLayer({ rect, values: Uint8Array.from(values) })),
};
"""


def random_step(rng: random.Random) -> dict:
    height, width = SHAPE
    value = rng.choice([0, 1, 2, 3, 252, 254, 255])
    kind = rng.choice(["stroke", "stroke", "polygon", "mask"])
    if kind == "stroke":
        ends = [rng.randint(-20, 2 * side + 20) for side in (height, width, height, width)]
        protect = rng.sample([0, 1, 2, 255], rng.choice([0, 0, 1, 2]))
        return {"kind": kind, "ends": ends, "radius": rng.randint(1, 24) / 2, "value": value, "protect": protect}
    if kind == "polygon":
        rings = [random_ring(rng) for _ in range(rng.choice([1, 1, 2, 3]))]
        return {"kind": kind, "value": value, "rings": rings, "keep": rng.sample([0, 1, 2, 255], rng.choice([0, 0, 2]))}
    row0, col0 = rng.randrange(height), rng.randrange(width)
    row1, col1 = rng.randint(row0 + 1, height), rng.randint(col0 + 1, width)
    values = rng.choices([0, 1, 253, 253, 254, 255], k=(row1 - row0) * (col1 - col0))
    return {"kind": kind, "rect": {"row0": row0, "col0": col0, "row1": row1, "col1": col1}, "values": values}


def random_ring(rng: random.Random) -> list[int]:
    height, width = SHAPE
    return [rng.randint(-100, 16 * side + 100) for _ in range(rng.randint(3, 9)) for side in (height, width)]


def is_within(ends: list[int], radius: float, shape: tuple[int, int]) -> np.ndarray:
    """The words of the definition: the distance of each pixel's centre to the segment, in whole half pixels."""
    row0, col0, row1, col1 = ends
    row, col = np.mgrid[: shape[0], : shape[1]] * 2 + 1
    y, x, rows, cols = row - row0, col - col0, row1 - row0, col1 - col0
    along, length2, reach2 = y * rows + x * cols, rows**2 + cols**2, round(2 * radius) ** 2
    at_first, at_last = y**2 + x**2 <= reach2, (row - row1) ** 2 + (col - col1) ** 2 <= reach2
    beside = (y * cols - x * rows) ** 2 <= reach2 * length2
    return np.where(along <= 0, at_first, np.where(along >= length2, at_last, beside)).astype(np.uint8)


def test_the_golden_vectors_hold_in_the_browser(modules):
    rendered = run(
        modules,
        """
        return cases.map((given) => {
          const { layers, height, width } = m.fromDocument({ schema: 1, ...given });
          const { crc32, counts } = m.toDocument(layers, height, width, m.render(layers, height, width));
          return { crc32, counts };
        });
        """,
        cases=GOLDEN,
    )
    assert rendered == [{"crc32": case["crc32"], "counts": case["counts"]} for case in GOLDEN]


def test_a_thousand_random_steps_look_the_same_in_the_browser_and_on_the_server(modules):
    rng = random.Random(2032)
    tiles = [[random_step(rng) for _ in range(20)] for _ in range(50)]
    played = run(
        modules,
        PLAY
        + """
        return tiles.flatMap((steps) => {
          layers.length = 0;
          plane.fill(m.UNLABELLED);
          return steps.map((step) => {
            const rect = doing[step.kind](step);
            if (rect) m.renderRect(plane, layers, height, width, rect);
            return { document: m.toDocument(layers, height, width, plane), plane: base64(plane) };
          });
        });
        """,
        shape=SHAPE,
        tiles=tiles,
    )
    assert len(played) == 1000
    assert [from_json(step["document"]).plane().tobytes() for step in played] == [
        base64.b64decode(step["plane"]) for step in played
    ]


def test_rendering_a_part_gives_what_rendering_the_whole_gives_there(modules):
    rng = random.Random(7)
    steps = [random_step(rng) for _ in range(40)]
    rects = [
        [row0, col0, rng.randint(row0 + 1, 50), rng.randint(col0 + 1, 66)]
        for row0, col0 in ((rng.randint(-2, 46), rng.randint(-2, 62)) for _ in range(300))
    ]
    wrong = run(
        modules,
        PLAY
        + """
        for (const step of steps) doing[step.kind](step);
        const whole = m.render(layers, height, width);
        return rects.filter(([row0, col0, row1, col1]) => {
          const part = new Uint8Array(height * width).fill(77);
          m.renderRect(part, layers, height, width, { row0, col0, row1, col1 });
          return part.some((value, i) => {
            const [row, col] = [Math.floor(i / width), i % width];
            return value !== (row >= row0 && row < row1 && col >= col0 && col < col1 ? whole[i] : 77);
          });
        });
        """,
        shape=SHAPE,
        steps=steps,
        rects=rects,
    )
    assert wrong == []


def test_the_region_of_a_polygon_is_what_it_paints(modules):
    rng = random.Random(5)
    polygons = [[random_ring(rng) for _ in range(rng.choice([1, 2]))] for _ in range(200)]
    wrong = run(
        modules,
        """
        return polygons.filter((rings) => {
          const plane = m.render([polygon(rings)], ...shape);
          const inside = pixels(m.regionOf(polygon(rings, 1, [255]), ...shape), shape);
          return inside.some((isInside, i) => isInside !== Number(plane[i] === 1));
        });
        """,
        shape=SHAPE,
        polygons=polygons,
    )
    assert wrong == []


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 1000, 65537])
def test_the_checksum_is_that_of_zlib(modules, length):
    data = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8)
    assert run(modules, "return m.crc32(Uint8Array.from(data));", data=data) == zlib.crc32(data.tobytes())


def test_a_document_of_the_server_comes_back_unchanged(modules):
    plane = np.random.default_rng(3).choice(np.array([0, 1, 2, 254, 255], np.uint8), SHAPE)
    document = to_json(annotation_of(plane))
    document["layers"][0]["id"] = "first"
    document["layers"].append(
        {
            "t": "poly",
            "value": 4,
            "keep": [1, 254],
            "rings": [rectangle(2, 3, 20, 30)],
            "id": "second",
            "by": "ana",
            "at": "2026-01-02T03:04:05Z",
            "src": "import:cells.json",
        }
    )
    document = to_json(from_json({**document, "crc32": None}))
    again = run(
        modules,
        """
        const { layers, height, width } = m.fromDocument(document);
        return m.toDocument(layers, height, width, m.render(layers, height, width));
        """,
        document=document,
    )
    assert again == document


def test_a_mask_layer_is_saved_in_the_box_of_what_it_paints(modules):
    document = run(
        modules,
        """
        const values = new Uint8Array(48 * 64).fill(m.SEE_THROUGH);
        values[5 * 64 + 9] = 3;
        values[7 * 64 + 12] = 255;
        const layers = [
          m.maskLayer({ rect: tile(shape), values }),
          m.maskLayer({ rect: tile(shape), values: new Uint8Array(48 * 64).fill(m.SEE_THROUGH) }),
        ];
        return m.toDocument(layers, ...shape, m.render(layers, ...shape));
        """,
        shape=SHAPE,
    )
    (layer,) = from_json(document).layers
    assert isinstance(layer, MaskLayer)
    assert (layer.row0, layer.col0, layer.values.shape) == (5, 9, (3, 4))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": 2}, "annotation schema is 2; this page reads 1"),
        ({"layers": [{"t": "line"}]}, "a layer has type “line”"),
        ({"layers": [{"t": "mask", "box": [0, 0, 2, 2], "rle": [3, 1]}]}, "runs cover 3 px of a box of 4 px"),
    ],
)
def test_a_document_that_cannot_be_read_is_refused_in_a_sentence(modules, change, sentence):
    document = {"schema": 1, "height": 4, "width": 4, "layers": [], **change}
    message = run(
        modules,
        "try { m.fromDocument(document); } catch (error) { return error.message; } return '';",
        document=document,
    )
    assert sentence in message


@pytest.mark.parametrize("make", ["flatten(layers, ...shape)", "mergeNeighbours(layers)"])
def test_tidying_layers_does_not_change_the_plane(modules, make):
    rng = random.Random(11)
    steps = [random_step(rng) for _ in range(40)]
    before, after = run(
        modules,
        PLAY
        + f"""
        for (const step of steps) doing[step.kind](step);
        return [layers, m.{make}].map((layers) => Array.from(m.render(layers, ...shape)));
        """,
        shape=SHAPE,
        steps=steps,
    )
    assert before == after


def test_neighbouring_mask_layers_of_one_author_and_source_become_one(modules):
    layers = run(
        modules,
        """
        const mask = (by, src) => m.maskLayer({ rect: tile([2, 2]), values: Uint8Array.of(1, 2, 253, 0), by, src });
        const layers = [mask("ana"), mask("ana"), mask("ana", "model:7"), mask("ben"), polygon([]), mask("ben")];
        return m.mergeNeighbours(layers).map(({ t, by, src }) => [t, by, src]);
        """,
    )
    assert layers == [
        ["mask", "ana", "manual"],
        ["mask", "ana", "model:7"],
        ["mask", "ben", "manual"],
        ["poly", "", "manual"],
        ["mask", "ben", "manual"],
    ]


def test_a_copied_plane_renders_to_itself(modules):
    plane = np.random.default_rng(4).choice(np.array([0, 3, 254, 255], np.uint8), SHAPE)
    layer, rendered = run(
        modules,
        """
        const layer = m.copyMask(Uint8Array.from(plane), ...shape, { src: "copy:9", by: "ana" });
        return [layer, Array.from(m.render([layer], ...shape))];
        """,
        shape=SHAPE,
        plane=plane.reshape(-1),
    )
    assert np.array_equal(pixels(rendered, SHAPE), plane)
    assert (layer["src"], layer["by"]) == ("copy:9", "ana")


def test_a_plane_without_labels_is_not_copied(modules):
    assert run(modules, "return m.copyMask(new Uint8Array(6).fill(255), 2, 3);") is None


def test_ids_are_long_and_never_the_same(modules):
    ids = run(modules, "return Array.from({ length: 1000 }, () => m.newId());")
    assert len(set(ids)) == 1000
    assert all(len(id) >= 22 and id.replace("-", "a").replace("_", "a").isalnum() for id in ids)


def test_a_brush_covers_the_centres_within_its_radius(modules):
    rng = random.Random(17)
    strokes = [([rng.randint(-20, 100) for _ in range(4)], rng.randint(0, 30) / 2) for _ in range(500)]
    strokes += [([a, b, a, b], r) for (a, b, *_), r in strokes[:50]]  # clicks without movement
    strokes += [([a, b, a, c], r) for (a, b, c, _), r in strokes[:50]]  # along a row
    drawn = run(
        modules,
        "return strokes.map(([ends, radius]) => pixels(m.capsule(...ends, radius, ...shape), shape));",
        shape=SHAPE,
        strokes=strokes,
    )
    assert np.array_equal(
        np.array(drawn).reshape(len(strokes), *SHAPE),
        [is_within(ends, radius, SHAPE) for ends, radius in strokes],
    )


def test_a_stroke_there_and_a_stroke_back_are_the_same(modules):
    rng = random.Random(18)
    strokes = [([rng.randint(0, 90) for _ in range(4)], rng.randint(1, 20) / 2) for _ in range(200)]
    there, back = run(
        modules,
        """
        const drawn = ([ends, radius]) => pixels(m.capsule(...ends, radius, ...shape), shape);
        return [strokes.map(drawn), strokes.map(([[a, b, c, d], radius]) => drawn([[c, d, a, b], radius]))];
        """,
        shape=SHAPE,
        strokes=strokes,
    )
    assert there == back


def test_a_long_stroke_on_the_largest_tile_is_exact(modules):
    # The square of the distance times the length passes 2**53 here.
    ends, radius = [3, 5, 16379, 16111], 200.5
    covered = run(
        modules,
        """
        const { rect, inside } = m.capsule(...ends, radius, 8192, 8192);
        const cols = rect.col1 - rect.col0;
        return rows.map((row) => {
          const line = inside.subarray((row - rect.row0) * cols, (row - rect.row0 + 1) * cols);
          return [rect.col0 + line.indexOf(1), rect.col0 + line.lastIndexOf(1)];
        });
        """,
        ends=ends,
        radius=radius,
        rows=(rows := list(range(400, 7800, 370))),
    )
    assert covered == [_ends_in_row(ends, radius, row) for row in rows]


def _ends_in_row(ends: list[int], radius: float, row: int) -> list[int]:
    """First and last column beside a long segment, in Python's whole numbers."""
    row0, col0, row1, col1 = ends
    rows, cols, reach = row1 - row0, col1 - col0, round(2 * radius)
    limit2 = reach**2 * (rows**2 + cols**2)
    inside = [col for col in range(8192) if ((2 * row + 1 - row0) * cols - (2 * col + 1 - col0) * rows) ** 2 <= limit2]
    return [inside[0], inside[-1]]
