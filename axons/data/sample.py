"""Sample project drawn in code: eight synthetic light micrographs of nerve cross-sections with exact truth."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

SAMPLE_CLASSES: tuple[str, ...] = ("background", "myelin", "axon")
SAMPLE_COLOURS: tuple[str, ...] = ("#000000", "#E69F00", "#56B4E9")  # colour-blind-safe: Okabe and Ito, 2008

ANGLES = np.linspace(0, 2 * np.pi, 128, endpoint=False)  # from the direction of columns towards that of rows

_MYELIN, _AXON = SAMPLE_CLASSES.index("myelin"), SAMPLE_CLASSES.index("axon")
# Chosen by eye: the third is pale, the fifth dark, the fifth and seventh out of focus, the third and sixth loose.
_SEEDS = (34, 29, 38, 45, 35, 36, 33, 14)
_THINNEST_MYELIN = 2.0  # px; where the outline is steep, a thinner ring lets an axon pixel touch background
_CORNER = 14  # exponent of the soft minimum that flattens neighbours against each other; higher is sharper
_MARGIN = 25  # px around the image in which centres may lie, so that the border cuts fibres

# Optical densities (red, green, blue) under toluidine blue.
_MYELIN_DENSITY = np.array([1.65, 1.68, 0.85])
_AXON_DENSITY = np.array([0.23, 0.20, 0.11])
_GROUND_DENSITY = np.array([0.21, 0.25, 0.12])
_NUCLEUS_DENSITY = np.array([0.86, 0.84, 0.38])
_WALL_DENSITY = np.array([0.68, 0.72, 0.34])
_BUNDLE_DENSITY = np.array([0.55, 0.57, 0.27])
_VESSEL_DENSITY = np.array([0.07, 0.08, 0.06])


@dataclass(frozen=True, kw_only=True)
class Micrograph:
    """A drawn `image`, (H, W, 3) uint8, and its `mask`, (H, W) uint8 class indices."""

    image: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Body:
    """One star-shaped thing in the section: a wall around a lumen.

    Args:
        centre: (row, column); the centre of pixel (i, j) is at (i, j).
        outer: distance in px of the wall's outer edge from `centre` at each of `ANGLES`, linear in between.
        inner: the same for its inner edge.
        wall: optical density (3,).
        lumen: optical density (3,).
        grain: contrast of the texture in the lumen.
        lamination: contrast of the layers in the wall.
        is_fibre: the wall is myelin and the lumen axon; all other bodies are background.
    """

    centre: np.ndarray
    outer: np.ndarray
    inner: np.ndarray
    wall: np.ndarray
    lumen: np.ndarray
    grain: float = 0.2
    lamination: float = 0.0
    is_fibre: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """What bodies are painted on: optical `density` (H, W, 3), `texture` (H, W) of deviation 1, and `mask` (H, W)."""

    density: np.ndarray
    texture: np.ndarray
    mask: np.ndarray


def write_sample(folder: Path) -> None:
    """Write `images/nerve-1.png` to `nerve-8.png` and, under `masks`, their class indices; the same bytes each time."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_SEEDS, start=1):
        micrograph = draw_micrograph(np.random.default_rng(seed))
        Image.fromarray(micrograph.image).save(folder / "images" / f"nerve-{number}.png")
        Image.fromarray(micrograph.mask).save(folder / "masks" / f"nerve-{number}.png")


def draw_micrograph(rng: np.random.Generator, *, size: int = 512) -> Micrograph:
    """Draw a semi-thin section under toluidine blue, `size` px square; packing, stain, focus and noise vary."""
    texture = _smooth_noise(rng, size, sigma=1.1)
    filaments = np.exp(-5 * _smooth_noise(rng, size, sigma=2.2) ** 2)  # collagen: where smooth noise crosses zero
    ground = 0.9 + 0.35 * filaments + 0.15 * _smooth_noise(rng, size, sigma=10) + 0.06 * texture
    density = (ground[..., None] * _GROUND_DENSITY * rng.uniform(0.9, 1.1, 3)).astype(np.float32)
    section = Section(density=density, texture=texture, mask=np.zeros((size, size), np.uint8))
    for body in arrange(rng, size=size):
        paint(section, body)
    return Micrograph(image=_photograph(rng, section.density), mask=section.mask)


def arrange(rng: np.random.Generator, *, size: int) -> list[Body]:
    """Grow the bodies of a section, packed and flattened against each other; no pixel centre lies in two fibres."""
    kinds, radii = _population(rng, share=((size + 2 * _MARGIN) / (512 + 2 * _MARGIN)) ** 2)
    circles = _pack(rng, radii, size=size)
    placed = np.isfinite(circles[:, 0])
    growth = rng.uniform(1.08, 1.22)
    bodies: list[Body] = []
    for kind, circle in zip(kinds[placed], circles[placed], strict=True):
        shape = growth * circle[2] * _wobble(rng, stretch=_STRETCH[kind])
        bodies += _MAKERS[kind](rng, circle[:2], outer=_flatten(shape, circle, circles=circles[placed]))
    return bodies


def paint(section: Section, body: Body) -> None:
    """Paint a body on the section: its look anti-aliased, its classes by where the centre of each pixel lies."""
    rows, columns = _window(body, len(section.mask))
    down, right = np.mgrid[rows, columns] - body.centre[:, None, None]
    radius, angle = np.hypot(down, right), np.arctan2(down, right)
    outer = np.interp(angle, ANGLES, body.outer, period=2 * np.pi)
    inner = np.interp(angle, ANGLES, body.inner, period=2 * np.pi)

    grain = section.texture[rows, columns]
    layers = np.cos(4 * np.pi * (radius - inner) / (outer - inner))
    wall = body.wall * (1 + body.lamination * layers + 0.04 * grain)[..., None]
    lumen = body.lumen * (1 + body.grain * grain)[..., None]
    density = section.density[rows, columns]
    density += np.clip(outer - radius + 0.5, 0, 1)[..., None] * (wall - density)
    density += np.clip(inner - radius + 0.5, 0, 1)[..., None] * (lumen - density)
    if body.is_fibre:
        section.mask[rows, columns][radius <= outer] = _MYELIN
        section.mask[rows, columns][radius <= inner] = _AXON


def _window(body: Body, size: int) -> tuple[slice, slice]:
    reach = body.outer.max() + 1
    first = np.clip(np.floor(body.centre - reach), 0, size).astype(int)
    end = np.clip(np.ceil(body.centre + reach) + 1, 0, size).astype(int)
    return slice(first[0], end[0]), slice(first[1], end[1])


def _population(rng: np.random.Generator, *, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Kinds and radii of the bodies for a `share` of 512 x 512 px, in the order of placing: small fibres fill gaps."""
    num_fibres = int(rng.uniform(280, 560) * share) + 2
    num_vessels, num_bundles, num_nuclei = rng.poisson(np.array([0.8, 7, 12]) * share)
    small = rng.lognormal(np.log(7), 0.2, num_fibres).clip(5, 9)
    large = rng.lognormal(np.log(17), 0.3, num_fibres).clip(11, 30)
    fibres = np.where(rng.random(num_fibres) < rng.uniform(0.35, 0.65), small, large) / 1.15
    vessels, bundles = rng.uniform(14, 24, num_vessels), rng.uniform(7, 12, num_bundles)
    nuclei = rng.uniform(6, 10, num_nuclei)
    radii = np.concatenate([vessels, bundles, nuclei, fibres])
    kinds = np.repeat(["vessel", "bundle", "nucleus", "fibre"], [num_vessels, num_bundles, num_nuclei, num_fibres])
    order = np.lexsort((rng.random(len(radii)), (kinds == "fibre") & (radii < 9), kinds != "vessel"))
    return kinds[order], radii[order]


def _pack(rng: np.random.Generator, radii: np.ndarray, *, size: int) -> np.ndarray:
    """Circles (row, column, radius) (N, 3), NaN where one found no place: none overlap, most settle in groups."""
    centres = np.full(len(radii), np.nan, complex)  # np.abs of a complex array: a fifth of the time of np.hypot
    for i, radius in enumerate(radii):
        darts = rng.uniform(-_MARGIN, size + _MARGIN, (40, 2)) @ [1, 1j]
        gaps = np.abs(darts[:, None] - centres[:i]) - radii[:i] - radius
        clearance = np.fmin.reduce(gaps, axis=1, initial=size)
        free = np.flatnonzero(clearance > 0)
        if len(free):
            centres[i] = darts[free[0] if rng.random() < 0.3 else free[clearance[free].argmin()]]
    return np.column_stack([centres.real, centres.imag, radii])


def _flatten(shape: np.ndarray, circle: np.ndarray, *, circles: np.ndarray) -> np.ndarray:
    """Limit the radii of a shape at `ANGLES` to its cell of the power diagram, so that no two bodies overlap."""
    row, column, radius = circle
    down, right, theirs = (circles - [row, column, 0]).T
    distance = np.hypot(down, right)
    near = (distance > 0) & (distance < theirs + 3 * radius)
    edge = (distance[near] ** 2 + radius**2 - theirs[near] ** 2) / (2 * distance[near])
    facing = np.cos(ANGLES - np.arctan2(down[near], right[near])[:, None])
    # 0.05 px: between two of ANGLES the straight edge of a cell bows outward.
    limits = (edge[:, None] - 0.05) / np.maximum(facing, 0.05)
    outline: np.ndarray = (shape**-_CORNER + (limits**-_CORNER).sum(axis=0)) ** (-1 / _CORNER)
    return outline


def _wobble(rng: np.random.Generator, *, stretch: float) -> np.ndarray:
    """A smooth irregular ellipse: radii about 1 at `ANGLES`."""
    ratio, turned = rng.uniform(1, stretch), ANGLES - rng.uniform(0, np.pi)
    orders = np.arange(2, 8)[:, None]
    heights = rng.choice([0.05, 0.1]) * rng.standard_normal(orders.shape) / orders
    waves = heights * np.cos(orders * ANGLES + rng.uniform(0, 2 * np.pi, orders.shape))
    radii: np.ndarray = (1 + waves.sum(axis=0)) / np.hypot(np.cos(turned) / ratio, np.sin(turned) * ratio)
    return radii


def _fibre(rng: np.random.Generator, centre: np.ndarray, *, outer: np.ndarray) -> list[Body]:
    g_ratio = np.clip(rng.normal(0.64, 0.06), 0.5, 0.75)
    uneven = 1 + rng.uniform(0, 0.35) * np.cos(ANGLES - rng.uniform(0, 2 * np.pi))
    thickness = np.maximum((1 - g_ratio) * outer.mean() * uneven, _THINNEST_MYELIN)
    return [
        Body(
            centre=centre,
            outer=outer,
            inner=np.maximum(outer - thickness, 0.3 * outer),
            wall=_MYELIN_DENSITY * rng.normal(1, 0.14),
            lumen=_AXON_DENSITY * rng.normal(1, 0.15),
            lamination=rng.choice([0.03, 0.06, 0.2], p=[0.5, 0.35, 0.15]),
            is_fibre=True,
        )
    ]


def _vessel(rng: np.random.Generator, centre: np.ndarray, *, outer: np.ndarray) -> list[Body]:
    bulge = np.cos(0.5 * (ANGLES - rng.uniform(0, 2 * np.pi))) ** 8  # the nucleus of an endothelial cell
    inner = outer - rng.uniform(2, 3) - 4 * bulge
    return [Body(centre=centre, outer=outer, inner=inner, wall=_WALL_DENSITY, lumen=_VESSEL_DENSITY)]


def _nucleus(rng: np.random.Generator, centre: np.ndarray, *, outer: np.ndarray) -> list[Body]:
    density = _NUCLEUS_DENSITY * rng.normal(1, 0.12)
    return [Body(centre=centre, outer=outer, inner=outer - 1.5, wall=1.15 * density, lumen=density)]


def _bundle(rng: np.random.Generator, centre: np.ndarray, *, outer: np.ndarray) -> list[Body]:
    """Unmyelinated axons, too thin to label, in one Schwann cell."""
    count, reach = rng.integers(5, 10), outer.min()
    bodies = [Body(centre=centre, outer=outer, inner=outer - 1, wall=_BUNDLE_DENSITY, lumen=_BUNDLE_DENSITY)]
    for k, turn in enumerate(rng.uniform(0, 2 * np.pi) + 2.4 * np.arange(count)):  # 2.4: the golden angle fills a disk
        away = 0.6 * reach * np.sqrt((k + 0.5) / count)
        hole = rng.uniform(0.55, 0.75) * reach / np.sqrt(count) * _wobble(rng, stretch=1.2)
        spot = centre + away * np.array([np.sin(turn), np.cos(turn)])
        bodies.append(Body(centre=spot, outer=hole, inner=hole - 0.5, wall=_WALL_DENSITY, lumen=_AXON_DENSITY))
    return bodies


_MAKERS: dict[str, Callable[..., list[Body]]] = {
    "fibre": _fibre,
    "vessel": _vessel,
    "nucleus": _nucleus,
    "bundle": _bundle,
}
_STRETCH = {"fibre": 1.25, "vessel": 1.2, "nucleus": 2.0, "bundle": 1.5}


def _photograph(rng: np.random.Generator, density: np.ndarray) -> np.ndarray:
    """Light through the section onto a camera: stain and lamp uneven, a little out of focus, shot and read noise."""
    size = len(density)
    tint, strength = rng.uniform(0.88, 1.12, 3), rng.uniform(0.6, 1.3)
    stain = strength * (1 + 0.2 * _slope(rng, size))[..., None] * tint
    lamp = (0.95 + 0.06 * _slope(rng, size))[..., None]
    light = (lamp * np.exp(-density * stain)).astype(np.float32)
    blur = rng.uniform(0.7, 1.6)
    light = ndimage.gaussian_filter(light, (blur, blur, 0), truncate=3)
    shot = rng.uniform(0.008, 0.035) * np.sqrt(light + 0.05)
    light += shot * rng.standard_normal(light.shape, dtype=np.float32)
    image: np.ndarray = np.rint(255 * light.clip(0, 1)).astype(np.uint8)
    return image


def _smooth_noise(rng: np.random.Generator, size: int, *, sigma: float) -> np.ndarray:
    noise: np.ndarray = ndimage.gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), sigma, truncate=3)
    noise /= noise.std()
    return noise


def _slope(rng: np.random.Generator, size: int) -> np.ndarray:
    """A slow curved gradient, (size, size), mostly between -1 and 1."""
    down = np.linspace(-1, 1, size)[:, None]
    right = down.T
    a, b, c, d = rng.uniform(-0.7, 0.7, 4)
    slope: np.ndarray = a * down + b * right + c * down * right + d * (down**2 + right**2 - 0.7)
    return slope
