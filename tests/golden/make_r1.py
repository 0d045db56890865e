"""Writes r1.json: layer stacks and what rule R1 makes of them, by the slow reference."""

import json
import random
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from tests.data.r1_reference import render


def polygon(value: int, *rings: list[int], keep: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"t": "poly", "value": value, "keep": list(keep), "rings": list(rings)}


def rectangle(row0: int, col0: int, row1: int, col1: int) -> list[int]:
    return [row0, col0, row0, col1, row1, col1, row1, col0]


def mask(row0: int, col0: int, rows: list[list[int]]) -> dict[str, Any]:
    runs: list[int] = []
    for value in (value for row in rows for value in row):
        if runs and runs[-1] == value:
            runs[-2] += 1
        else:
            runs += [1, value]
    return {"t": "mask", "box": [row0, col0, len(rows), len(rows[0])], "rle": runs}


def hand_made() -> dict[str, tuple[int, int, list[dict[str, Any]]]]:
    star = [16, 128, 224, 48, 80, 240, 80, 16, 224, 208]
    ring = [rectangle(32, 32, 224, 224), rectangle(96, 96, 160, 160)]
    return {
        "nothing": (5, 7, []),
        "a rectangle on pixel corners": (16, 16, [polygon(1, rectangle(32, 48, 128, 160))]),
        "a rectangle through pixel centres": (16, 16, [polygon(1, rectangle(40, 56, 136, 168))]),
        "a rectangle just inside pixel centres": (16, 16, [polygon(1, rectangle(41, 57, 135, 167))]),
        "neighbours that share an edge leave no gap": (
            16,
            16,
            [polygon(1, rectangle(16, 16, 120, 120)), polygon(2, rectangle(16, 120, 120, 200))],
        ),
        "a star that crosses itself": (16, 16, [polygon(3, star)]),
        "a hole": (16, 16, [polygon(2, *ring)]),
        "a hole keeps what was there": (16, 16, [polygon(1, rectangle(0, 0, 256, 256)), polygon(2, *ring)]),
        "turned the other way": (16, 16, [polygon(2, [224, 32, 224, 224, 32, 224, 32, 32])]),
        "a sliver without a centre": (16, 16, [polygon(1, [16, 16, 18, 240, 20, 16])]),
        "a line": (16, 16, [polygon(1, [16, 16, 200, 200, 16, 16])]),
        "beyond the tile on all sides": (9, 11, [polygon(4, [-160, 80, 80, -160, 320, 90, 70, 400])]),
        "wholly outside": (
            9,
            11,
            [polygon(4, rectangle(-200, -200, -20, -20)), polygon(5, rectangle(300, 300, 400, 400))],
        ),
        "one pixel": (1, 1, [polygon(9, rectangle(0, 0, 16, 16))]),
        "protected values stay": (
            16,
            16,
            [polygon(1, rectangle(0, 0, 128, 256)), polygon(2, rectangle(64, 64, 200, 200), keep=(1,))],
        ),
        "protected unlabelled stays": (
            16,
            16,
            [polygon(1, rectangle(0, 0, 128, 256)), polygon(2, rectangle(64, 64, 200, 200), keep=(255, 254))],
        ),
        "erased by a polygon": (
            16,
            16,
            [polygon(1, rectangle(0, 0, 256, 256)), polygon(255, rectangle(64, 64, 128, 128))],
        ),
        "ignored on purpose": (16, 16, [polygon(254, rectangle(16, 16, 128, 128))]),
        "a see-through mask over a polygon": (
            8,
            8,
            [polygon(1, rectangle(0, 0, 128, 128)), mask(2, 3, [[253, 0, 253], [2, 253, 254], [255, 255, 253]])],
        ),
        "a polygon over a mask": (8, 8, [mask(0, 0, [[1] * 8] * 8), polygon(0, [8, 8, 120, 8, 8, 120])]),
        "the highest class": (4, 4, [mask(0, 0, [[252] * 4] * 4)]),
        "the same ring twice cancels": (16, 16, [polygon(1, rectangle(32, 32, 128, 128), rectangle(32, 32, 128, 128))]),
        "rings that overlap cancel where they overlap": (
            16,
            16,
            [polygon(1, rectangle(32, 32, 128, 128), rectangle(80, 80, 200, 200))],
        ),
        "a steep and a flat edge": (
            40,
            40,
            [polygon(1, [3, 5, 637, 11, 621, 629]), polygon(2, [7, 633, 9, 3, 631, 620])],
        ),
    }


def random_case(rng: random.Random) -> tuple[int, int, list[dict[str, Any]]]:
    height, width = rng.randint(1, 40), rng.randint(1, 40)
    layers: list[dict[str, Any]] = []
    for _ in range(rng.randint(1, 6)):
        if rng.random() < 0.7:
            rings = [
                [
                    number
                    for _ in range(rng.randint(3, 9))
                    for number in (rng.randint(-80, 16 * height + 80), rng.randint(-80, 16 * width + 80))
                ]
                for _ in range(rng.choice([1, 1, 2, 3]))
            ]
            keep = tuple(rng.sample([0, 1, 2, 254, 255], rng.choice([0, 0, 1, 2])))
            layers.append(polygon(rng.choice([0, 1, 2, 3, 254, 255]), *rings, keep=keep))
        else:
            row0, col0 = rng.randrange(height), rng.randrange(width)
            rows, cols = rng.randint(1, height - row0), rng.randint(1, width - col0)
            layers.append(
                mask(
                    row0, col0, [[rng.choice([0, 1, 2, 253, 253, 254, 255]) for _ in range(cols)] for _ in range(rows)]
                )
            )
    return height, width, layers


def main() -> None:
    rng = random.Random(2032)
    cases = [(name, *case) for name, case in hand_made().items()]
    cases += [(f"random {i}", *random_case(rng)) for i in range(60)]
    vectors = []
    for name, height, width, layers in cases:
        plane = bytes(value for row in render(layers, height, width) for value in row)
        counts = {str(value): count for value, count in sorted(Counter(plane).items())}
        vectors.append(
            {
                "name": name,
                "height": height,
                "width": width,
                "layers": layers,
                "crc32": zlib.crc32(plane),
                "counts": counts,
            }
        )
    lines = ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in vectors)
    (Path(__file__).parent / "r1.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
