"""Objects of one class in a mask, measured on request."""

import numpy as np
from skimage.measure import label, regionprops

from axons.data.rows import Row
from axons.errors import PredictionRefused

MAX_PIXELS = 200 * 10**6


class MeasuredObject(Row):
    """One connected region of a class.

    Args:
        area: px.
        diameter: px, of the circle with the same area.
        row, col: centroid, px from the top left.
        area_um2, diameter_um: the same in µm, where the pixel size is known.
    """

    label: int
    area: int
    diameter: float
    row: float
    col: float
    area_um2: float | None = None
    diameter_um: float | None = None


def measure_objects(mask: np.ndarray, *, class_index: int, pixel_size_um: float | None = None) -> list[MeasuredObject]:
    """The regions of a class, connected by sides or corners, in the order of their first pixels.

    Raises:
        PredictionRefused: the mask is too large to measure at once.
    """
    if mask.size > MAX_PIXELS:
        raise PredictionRefused(
            f"objects are measured in masks of up to {MAX_PIXELS // 10**6} Mpx, this one has {mask.size // 10**6} Mpx; "
            "measure parts of it"
        )
    size = pixel_size_um
    return [
        MeasuredObject(
            label=int(region.label),
            area=int(region.area),
            diameter=float(region.equivalent_diameter_area),
            row=float(region.centroid[0]),
            col=float(region.centroid[1]),
            area_um2=float(region.area) * size**2 if size else None,
            diameter_um=float(region.equivalent_diameter_area) * size if size else None,
        )
        for region in regionprops(label(mask == class_index))
    ]


def objects_csv(objects: list[MeasuredObject]) -> str:
    """The objects as CSV with a header; columns in µm only if the pixel size is known."""
    fields = ["label", "area", "diameter", "row", "col"]
    if objects and objects[0].area_um2 is not None:
        fields += ["area_um2", "diameter_um"]
    lines = [",".join(fields)]
    lines += [",".join(f"{getattr(found, field):.10g}" for field in fields) for found in objects]
    return "\n".join(lines) + "\n"
