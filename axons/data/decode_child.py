"""The program that opens untrusted images: it runs in a process of its own, which may be killed at any moment.

Reads one JSON request a line from standard input, writes JSON lines to standard output. It trusts no byte of the file:
size, then magic number, then the header's pixel count, and only then the pixels.
"""

import errno
import json
import math
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
import tifffile
from PIL import ExifTags, Image, ImageFile, ImageOps

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
)
_EXTENSIONS = {
    "PNG": {".png"},
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "TIFF": {".tif", ".tiff", ".btf", ".tf8"},
    "WebP": {".webp"},
    "BMP": {".bmp", ".dib"},
}
_MASK_FORMATS = ("PNG", "TIFF", "BMP")
_BLURRING = ("jpeg", "tiff_jpeg", "webp")  # compressions inside a TIFF
_DTYPES = {
    "uchar": "uint8",
    "ushort": "uint16",
    "char": "int8",
    "short": "int16",
    "uint": "uint32",
    "int": "int32",
    "float": "float32",
    "double": "float64",
    "complex": "complex64",
    "dpcomplex": "complex128",
}
# Level 2 with horizontal differences: within 3 % of the size of level 6 at twice its speed on photos and micrographs.
_WORKING_TIFF = {
    "tile": True,
    "tile_width": 256,
    "tile_height": 256,
    "pyramid": True,
    "compression": "deflate",
    "level": 2,
    "predictor": "horizontal",
    "keep": "none",
}
_MAX_TILE_ROW_BYTES = 400 << 20  # a row of tiles across a TIFF is in memory twice
_GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
_MAX_GEO_VALUES = 10_000
_ALPHA = (1, 2)  # TIFF's ExtraSamples: associated and unassociated alpha; 0 may be anything, near infrared for one
_MAX_CHUNKS = 1000  # of a PNG before its pixels; others have a few dozen
_TO_MICROMETRES = {"um": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}
_MICRO_SIGNS = ("\u00b5", "\u03bc", "\\u00B5")  # the sign, the Greek letter, and as ImageJ writes it


class Refused(Exception):
    """The file is turned down; the text is for the person who sent it."""


@dataclass(kw_only=True)
class _Facts:
    """What a file tells of itself besides pixels, and what is done about it."""

    notices: list[str] = field(default_factory=list)
    is_tiled: bool = False
    is_pyramid: bool = False
    has_alpha: bool = True  # if there is a second or fourth channel
    pixel_size_um: float | None = None
    geo: dict[str, Any] | None = None


def normalise(request: dict[str, Any], announce: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Write the working image of `request["source"]` to `request["target"]`; returns what is known about it."""
    name, path, limits = request["name"], Path(request["source"]), request["limits"]
    pyvips.vips_lib.vips_error_clear()
    kind = _recognise(path, name, limits)
    notices = _check_extension(name, kind)
    image, facts = _open_bmp(path, name, limits) if kind == "BMP" else _open_vips(path, name, kind, limits)
    announce({"pixels": image.width * image.height})
    image, changes = _to_one_or_three_channels(image, name, facts.has_alpha)
    bigtiff = image.width * image.height * image.bands * (2 if image.format == "ushort" else 1) > 2 << 30
    image.tiffsave(request["target"], bigtiff=bigtiff, **_WORKING_TIFF)
    changes += _complaints(kind)
    return {
        "format": kind,
        "height": image.height,
        "width": image.width,
        "channels": image.bands,
        "dtype": _DTYPES[image.format],
        "pixel_size_um": facts.pixel_size_um,
        "geo": facts.geo,
        "notices": notices + facts.notices + changes,
    }


def read_mask(request: dict[str, Any], announce: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Write the raw values of a mask as a NumPy file: (H, W) uint8 values or palette indices, or (H, W, 3) colours."""
    name, path, limits = request["name"], Path(request["source"]), request["limits"]
    kind = _recognise(path, name, limits)
    if kind not in _MASK_FORMATS:
        raise Refused(f"{name!r} is a {kind}, which may blur the edges of classes; export the mask as PNG")
    notices = _check_extension(name, kind) + _animation_notice(path, kind)
    # An open file, not its path: Pillow 13 maps an uncompressed TIFF by path, and garbles it if it has an orientation.
    with path.open("rb") as file, Image.open(file, formats=[kind]) as opened:
        _check_pixels(name, opened.width, opened.height, limits["max_pixels"], "cut image and mask into parts")
        _check_mask(opened, name)
        announce({"pixels": opened.width * opened.height})
        notices += _settle(opened, kind)
        values, changes = _mask_values(opened, name)
        notices += changes
        palette = (opened.getpalette("RGB") or []) if opened.mode == "P" else []
    np.save(request["target"], values, allow_pickle=False)
    return {"palette": [palette[i : i + 3] for i in range(0, len(palette), 3)], "notices": notices}


def _recognise(path: Path, name: str, limits: dict[str, int]) -> str:
    size = path.stat().st_size
    if size == 0:
        raise Refused(f"{name!r} is empty (0 bytes); send the file again")
    if size > limits["max_bytes"]:
        raise Refused(
            f"{name!r} has {size / 1e9:.1f} GB, the limit is {limits['max_bytes'] / 1e9:.1f} GB; cut it into parts"
        )
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    raise Refused(
        f"{name!r} is not an image we read (it begins with {head[:8]!r}); save it as PNG, JPEG, TIFF, WebP or BMP"
    )


def _check_extension(name: str, kind: str) -> list[str]:
    extension = Path(name).suffix.lower()
    if not extension or extension in _EXTENSIONS[kind]:
        return []
    return [f"the content is {kind} although the name ends in {extension!r}"]


def _check_pixels(
    name: str, width: int, height: int, limit: int, advice: str = "cut it into parts, or save it as a tiled TIFF"
) -> None:
    if width * height > limit:
        size = f"{width} x {height} = {width * height / 1e6:.0f} Mpx"
        raise Refused(f"{name!r} has {size}, the limit is {limit / 1e6:.0f} Mpx; {advice}")


def _open_vips(path: Path, name: str, kind: str, limits: dict[str, int]) -> tuple[pyvips.Image, _Facts]:
    facts = _tiff_facts(path, name) if kind == "TIFF" else _Facts()
    header = _load(path, "sequential")
    if facts.is_tiled:
        _check_pixels(name, header.width, header.height, limits["max_tiled_pixels"], "cut it into parts")
    else:
        _check_pixels(name, header.width, header.height, limits["max_pixels"])
    if header.format not in ("uchar", "ushort"):
        raise Refused(f"{name!r} has {_DTYPES[header.format]} pixels; export it with 8 or 16 bits a channel")
    pages = header.get("n-pages") if header.get_typeof("n-pages") else 1
    if pages > 1 and not facts.is_pyramid:
        facts.notices.append(f"only the first of {pages} pages or frames was taken")
    facts.notices += _animation_notice(path, kind)
    if header.get_typeof("icc-profile-data") and header.interpretation != "cmyk":
        facts.notices.append("the colour profile was dropped; the values are unchanged")
    orientation = header.get("orientation") if header.get_typeof("orientation") else 1
    if orientation in range(2, 9):
        facts.notices.append("the picture was turned as its EXIF orientation says")
        if facts.geo:
            facts.notices.append("the geo-reference, which is that of the picture before it was turned, was dropped")
            facts.geo = None
        return _load(path, "random").autorot(), facts
    return header, facts


def _load(path: Path, access: str) -> pyvips.Image:
    return pyvips.Image.new_from_file(str(path), access=access, fail_on="truncated")


def _animation_notice(path: Path, kind: str) -> list[str]:
    return ["only the first frame of the animation was taken"] if kind == "PNG" and _is_animated_png(path) else []


def _is_animated_png(path: Path) -> bool:
    """The chunk that announces frames stands before the pixels; the chunks between are passed over unread."""
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(_MAX_CHUNKS):
            length, kind = file.read(4), file.read(4)
            if kind in (b"acTL", b"IDAT", b""):
                return kind == b"acTL"
            file.seek(int.from_bytes(length) + 4, os.SEEK_CUR)
    raise pyvips.Error(f"more than {_MAX_CHUNKS} chunks before the pixels")


def _complaints(kind: str) -> list[str]:
    """What libvips has said of broken parts: it fills them with zeros and goes on.

    In a JPEG it also tells of bytes that do not belong there; the picture may be whole.
    """
    complaint = pyvips.Error("part of the picture is missing")  # takes what libvips has said so far, and clears it
    if not complaint.detail:
        return []
    if kind != "JPEG" or "premature end" in complaint.detail:
        raise complaint
    return [f"the file is slightly damaged ({_one_line(complaint.detail)}); look at the picture"]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:160]


def _tiff_facts(path: Path, name: str) -> _Facts:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        if page.is_tiled:
            width = max(page.imagewidth, page.tilewidth)
            row_bytes = width * page.tilelength * page.samplesperpixel * max(1, page.bitspersample // 8)
            if row_bytes > _MAX_TILE_ROW_BYTES:
                tiles = f"tiles of {page.tilewidth} x {page.tilelength} px, a row of which has {row_bytes >> 20} MB"
                raise Refused(f"{name!r} has {tiles}; save it with tiles of 256 px")
        facts = _Facts(is_tiled=page.is_tiled, is_pyramid=_is_pyramid(tiff, page))
        facts.has_alpha = len(page.extrasamples) == 1 and page.extrasamples[0] in _ALPHA
        geo_tags = [page.tags[tag] for tag in _GEO_TAGS if tag in page.tags]
        if sum(tag.count for tag in geo_tags) <= _MAX_GEO_VALUES:
            facts.geo = {str(tag.code): _plain(tag.value) for tag in geo_tags} or None
        else:
            facts.notices.append(f"the geo-reference has more than {_MAX_GEO_VALUES} values and was dropped")
        try:
            facts.pixel_size_um = _pixel_size_um(tiff, page)
        except (AttributeError, KeyError, TypeError, ValueError, SyntaxError):  # SyntaxError: not XML
            facts.notices.append("the pixel size in the file cannot be read; set it by hand")
        return facts


def _is_pyramid(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> bool:
    """The second page is the first one, smaller."""
    try:
        second = tiff.pages[1]
    except IndexError:
        return False
    assert isinstance(second, tifffile.TiffPage)
    across, down = page.imagewidth / second.imagewidth, page.imagelength / second.imagelength
    return across > 1.2 and abs(across / down - 1) < 0.1


def _pixel_size_um(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> float | None:
    """Width of a pixel where the file says it in so many words (OME, ImageJ); a mere dpi means nothing."""
    if tiff.is_ome and tiff.ome_metadata:
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
        pixels = (pixels[0] if isinstance(pixels, list) else pixels)["Pixels"]
        size, unit = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit", "µm")
    elif tiff.is_imagej and "XResolution" in page.tags:
        numerator, denominator = page.tags["XResolution"].value
        size, unit = denominator / numerator if numerator else None, (tiff.imagej_metadata or {}).get("unit", "")
    else:
        return None
    for sign in _MICRO_SIGNS:
        unit = str(unit).replace(sign, "u")
    factor = _TO_MICROMETRES.get(unit)
    return float(size) * factor if factor and size and 0 < float(size) < math.inf else None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _open_bmp(path: Path, name: str, limits: dict[str, int]) -> tuple[pyvips.Image, _Facts]:
    with Image.open(path, formats=["BMP"]) as opened:
        _check_pixels(name, opened.width, opened.height, limits["max_pixels"])
        if opened.mode == "1":
            picture: Image.Image = opened.convert("L")
        else:
            picture = opened if opened.mode in ("L", "RGB", "RGBA") else opened.convert("RGB")
        return pyvips.Image.new_from_array(_on_disk(picture), interpretation="auto"), _Facts()


def _on_disk(picture: Image.Image) -> np.ndarray:
    """The pixels as an array in a nameless file: Pillow's 4 bytes a pixel and ours do not fit in memory together."""
    with tempfile.TemporaryFile() as file:
        pixels = np.memmap(file, np.uint8, "w+", shape=(picture.height, picture.width, len(picture.getbands())))
    for top in range(0, picture.height, 256):
        rows = picture.crop((0, top, picture.width, min(top + 256, picture.height)))
        pixels[top : top + 256] = np.asarray(rows).reshape(rows.height, rows.width, -1)
    return pixels


def _to_one_or_three_channels(image: pyvips.Image, name: str, has_alpha: bool) -> tuple[pyvips.Image, list[str]]:
    notices = []
    if image.interpretation == "cmyk":
        image = image.icc_transform(
            "srgb", embedded=True, input_profile="cmyk", depth=16 if image.format == "ushort" else 8
        )
        notices.append("CMYK colours were converted to RGB")
    if has_alpha and image.bands in (2, 4):
        white = 65535 if image.format == "ushort" else 255
        image = image.flatten(background=[white] * (image.bands - 1), max_alpha=white)
        notices.append("the alpha channel was removed; transparent parts became white")
    if image.bands not in (1, 3) or image.interpretation in ("lab", "labs", "xyz", "hsv", "lch"):
        raise Refused(f"{name!r} has {image.bands} channels ({image.interpretation}); export it in grey or RGB")
    return image, notices


def _check_mask(opened: ImageFile.ImageFile, name: str) -> None:
    if (compression := opened.info.get("compression")) in _BLURRING:
        raise Refused(f"{name!r} is compressed as {compression}, which blurs the edges of classes; export it as PNG")
    if opened.mode in ("RGB", "RGBA") and ";16" in str(opened.tile):  # Pillow would drop the low bytes
        raise Refused(f"{name!r} has colours of 16 bits a channel; export the mask with 8 bits")


def _settle(opened: Image.Image, kind: str) -> list[str]:
    """Take the first page and turn it upright."""
    notices = []
    if kind == "TIFF":
        with suppress(EOFError):
            opened.seek(1)
            notices.append("only the first of several pages was taken")
        opened.seek(0)
    if opened.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        notices.append("the mask was turned as its EXIF orientation says")
        ImageOps.exif_transpose(opened, in_place=True)
    return notices


def _mask_values(opened: Image.Image, name: str) -> tuple[np.ndarray, list[str]]:
    if opened.mode in ("1", "L", "P"):
        return np.asarray(opened).astype(np.uint8), []
    if opened.mode in ("LA", "RGB", "RGBA"):
        values = _on_disk(opened)
        has_alpha = opened.mode in ("LA", "RGBA")
        notices = ["the mask's transparency was ignored"] if has_alpha and values[..., -1].min() < 255 else []
        return np.ascontiguousarray(values[..., 0] if opened.mode == "LA" else values[..., :3]), notices
    if opened.mode in ("I;16", "I;16B", "I;16L", "I"):
        values = np.asarray(opened)
        if values.min() < 0 or values.max() > 255:
            raise Refused(f"{name!r} has mask values up to {values.max()}; save it with 8 bits and values up to 255")
        return values.astype(np.uint8), []
    raise Refused(f"{name!r} is a mask in mode {opened.mode!r}; save it as 8-bit PNG of class indices")


def _confine(address_space_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Image.MAX_IMAGE_PIXELS = None  # our own limits, checked on the header, hold instead
    pyvips.cache_set_max(0)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for loader in ("Png", "Jpeg", "Tiff", "Webp"):
        pyvips.operation_block_set(f"VipsForeignLoad{loader}", False)


def _die_with(parent: int) -> None:
    # Not prctl(PR_SET_PDEATHSIG): it kills as soon as the *thread* that started us ends.
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _is_disk_full(error: Exception) -> bool:
    """Not the file's fault; libvips tells it as a text."""
    return getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error)


def main() -> None:
    _confine(int(sys.argv[1]))
    threading.Thread(target=_die_with, args=(int(sys.argv[2]),), daemon=True).start()
    operations = {"normalise": normalise, "read_mask": read_mask}

    def send(answer: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    send({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            send({"done": operations[request["operation"]](request, send)})
        except Refused as refusal:
            send({"refused": str(refusal)})
        except MemoryError:
            send({"refused": f"{request['name']!r} needs too much memory to decode; save it as a tiled TIFF"})
        except Exception as error:  # the outer edge of this process: a decoder may raise anything on hostile bytes
            if _is_disk_full(error):
                send({"full": True})
                continue
            text = str(error).replace(request["source"], "file").replace(request["target"], "file")
            reason = f"cannot be decoded ({_one_line(text) or type(error).__name__})"
            send({"refused": f"{request['name']!r} {reason}; open it in an image editor and save it again"})


if __name__ == "__main__":
    main()
