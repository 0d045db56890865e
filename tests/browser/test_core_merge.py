"""Joining what two people have made of one tile."""

import pytest

from tests.browser.core import run

# A layer is written as its id and its value; a layer with another value has been changed.
MERGE = """
const layer = ([id, value]) => m.polygonLayer({ value, rings: [[0, 0, 0, 160, 160, 160]], id });
const short = (made) => made && `${made.id}${made.value}`;
const layers = (texts) => texts.map((text) => layer([text[0], Number(text[1])]));
const { layers: merged, conflicts } = m.merge3(layers(base), layers(mine), layers(theirs));
return [
  merged.map(short).join(" "),
  conflicts.map(({ id, mine, theirs }) => [id, short(mine), short(theirs)]),
];
"""


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "merged"),
    [
        ("a1 b1", "a1 b1", "a1 b1", "a1 b1"),
        ("a1", "a1 m1", "a1", "a1 m1"),
        ("a1", "a1", "a1 t1", "a1 t1"),
        ("a1", "a1 m1 n1", "a1 t1 u1", "a1 t1 u1 m1 n1"),  # theirs first, mine on top
        ("a1 b1", "a2 b1", "a1 b1 t1", "a2 b1 t1"),
        ("a1 b1", "a1 b1", "a1 b2", "a1 b2"),
        ("a1 b1", "a2 b1", "a1 b2", "a2 b2"),
        ("a1 b1", "b1", "a1 b1", "b1"),  # deleted by me
        ("a1 b1", "a1 b1", "b1", "b1"),  # deleted by them
        ("a1 b1", "b1", "a1", ""),
        ("a1", "", "", ""),
        ("a1", "a2", "a2", "a2"),  # both made the same change
        ("a1", "a1 s1", "a1 s1", "a1 s1"),  # the answer to my last save was lost
        ("a1 b1", "a1 b1", "b1 a1", "b1 a1"),
    ],
)
def test_what_only_one_has_changed_is_merged(modules, base, mine, theirs, merged):
    result = run(modules, MERGE, base=base.split(), mine=mine.split(), theirs=theirs.split())
    assert result == [merged, []]


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "merged", "conflict"),
    [
        ("a1 b1", "a2 b1", "a3 b1", "a3 b1", ["a", "a2", "a3"]),
        ("a1", "", "a2", "a2", ["a", None, "a2"]),
        ("a1 b1", "a2 b1", "b1", "b1", ["a", "a2", None]),
        ("", "s1", "s2", "s2", ["s", "s1", "s2"]),
    ],
)
def test_what_both_have_changed_is_a_conflict_and_theirs_stands_meanwhile(
    modules, base, mine, theirs, merged, conflict
):
    result = run(modules, MERGE, base=base.split(), mine=mine.split(), theirs=theirs.split())
    assert result == [merged, [conflict]]


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({}, True),
        ({"by": "ben", "at": "later", "id": "other"}, True),
        ({"value": 2}, False),
        ({"keep": [1]}, False),
        ({"rings": [[0, 0, 0, 160, 160, 161]]}, False),
        ({"rings": [[0, 0, 0, 160, 160, 160], [0, 0, 0, 16, 16, 16]]}, False),
    ],
)
def test_polygons_are_the_same_by_what_they_paint(modules, change, is_same):
    parts = {"value": 1, "rings": [[0, 0, 0, 160, 160, 160]], "keep": []}
    body = "return m.same(m.polygonLayer(parts), m.polygonLayer(other));"
    assert run(modules, body, parts=parts, other={**parts, **change}) is is_same


@pytest.mark.parametrize(
    ("rect", "values", "is_same"),
    [
        ([0, 0, 2, 2], [1, 253, 253, 2], True),
        ([0, 0, 2, 3], [1, 253, 253, 253, 2, 253], True),  # a wider box that paints the same
        ([0, 0, 2, 2], [1, 253, 253, 3], False),
        ([1, 0, 3, 2], [1, 253, 253, 2], False),
        ([0, 0, 2, 2], [253] * 4, False),
    ],
)
def test_masks_are_the_same_by_what_they_paint(modules, rect, values, is_same):
    result = run(
        modules,
        """
        const mask = ([row0, col0, row1, col1], values) =>
          m.maskLayer({ rect: { row0, col0, row1, col1 }, values: Uint8Array.from(values) });
        return m.same(mask([0, 0, 2, 2], [1, 253, 253, 2]), mask(rect, values));
        """,
        rect=rect,
        values=values,
    )
    assert result is is_same
