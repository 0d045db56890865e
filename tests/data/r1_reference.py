"""Rule R1 as it is worded, pixel by pixel in whole numbers: slow, and plain enough to trust."""

from collections.abc import Sequence


def covers(rings: Sequence[Sequence[int]], row: int, col: int) -> bool:
    """Whether the centre of pixel (row, col) lies inside the rings ([row16, col16, ...]) by the even-odd rule."""
    centre_row, centre_col = 16 * row + 8, 16 * col + 8
    crossings = 0
    for ring in rings:
        vertices = list(zip(ring[0::2], ring[1::2], strict=True))
        for (row0, col0), (row1, col1) in zip(vertices, vertices[1:] + vertices[:1], strict=True):
            if row0 > row1:
                row0, col0, row1, col1 = row1, col1, row0, col0
            if row0 <= centre_row < row1:
                # The crossing lies at or left of the centre: compared after multiplying by row1 - row0 > 0.
                crossings += (centre_col - col0) * (row1 - row0) >= (centre_row - row0) * (col1 - col0)
    return crossings % 2 == 1


def render(layers: Sequence[dict], height: int, width: int) -> list[list[int]]:
    plane = [[255] * width for _ in range(height)]
    for layer in layers:
        if layer["t"] == "poly":
            for row in range(height):
                for col in range(width):
                    if plane[row][col] not in layer.get("keep", []) and covers(layer["rings"], row, col):
                        plane[row][col] = layer["value"]
        else:
            row0, col0, _, box_width = layer["box"]
            values = [
                value
                for length, value in zip(layer["rle"][0::2], layer["rle"][1::2], strict=True)
                for _ in range(length)
            ]
            for i, value in enumerate(values):
                if value != 253:
                    plane[row0 + i // box_width][col0 + i % box_width] = value
    return plane
