"""R11 and R12: mutated, hand-made and exploding files; each is refused with a sentence or becomes a working image."""

import io
import random
import re
import stat
import struct
import threading
import time
import zipfile
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import psutil
import pytest
import pyvips
import tifffile
from PIL import Image

from axons.data.archives import unpack_archive
from axons.data.decoding import Decoder
from axons.data.images import WorkingImage
from axons.errors import ArchiveRefused, ImageRefused

MAX_SECONDS = 30  # 5 on a machine of its own; the tests share theirs
MAX_PARENT_GROWTH = 100 * 10**6
MAX_CHILD_BYTES = 10**9
MAX_DISK_BYTES = 100 * 10**6
SENTENCE = re.compile(r"(['\"]).*\1 .+; .+[^.]", re.DOTALL)  # the file's name, what is wrong, what to do


@dataclass
class Verdict:
    """What became of one file: its refusal, or None where it became a working image."""

    name: str
    refusal: str | None
    seconds: float


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as shared:
        yield shared


# Building blocks


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **{"photometric": "rgb"} | options)
    return buffer.getvalue()


def noise(height, width, *channels, dtype=np.uint8):
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, (height, width, *channels), dtype)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *, idat, before=b"", colour_type=2):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + png_chunk(b"IDAT", idat) + png_chunk(b"IEND", b"")


def deflated_zeros(num_bytes):
    packer = zlib.compressobj(9)
    megabyte = bytes(1 << 20)
    return b"".join(packer.compress(megabyte) for _ in range(num_bytes >> 20)) + packer.flush()


def jpeg_of_size(width, height):
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_of_size(width, height, *, compression=0, bits=24, data=b""):
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    palette = bytes(1024) if bits == 8 else b""
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(palette)) + info + palette + data


def webp_of_size(width, height):
    payload = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(41)
    return b"RIFF" + struct.pack("<I", 12 + len(payload)) + b"WEBPVP8L" + struct.pack("<I", len(payload)) + payload


def tiff_of_tags(tags, data=b"", *, following=0, data_at=300):
    """A classic TIFF with one directory of {tag: (type, count, value)} and `data` at byte `data_at`."""
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(data_at, b"\0") + data


def grey_tags(width, height, *, compression=1):
    return {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, compression),
        262: (3, 1, 1),
        277: (3, 1, 1),
    }


def striped_tiff(width, height, *, compression=1, num_bytes, data=b"", rows=None):
    strips = {273: (4, 1, 300), 278: (4, 1, rows or height), 279: (4, 1, num_bytes)}
    return tiff_of_tags(grey_tags(width, height, compression=compression) | strips, data)


def shared_tile_tiff(width, height, *, tile=256):
    """Tiles of noise that are all the same bytes of the file."""
    num_tiles = -(-width // tile) * -(-height // tile)
    data = zlib.compress(noise(tile, tile).tobytes())
    at = 300 + 8 * num_tiles
    tags = {322: (4, 1, tile), 323: (4, 1, tile), 324: (4, num_tiles, 300), 325: (4, num_tiles, 300 + 4 * num_tiles)}
    tables = struct.pack("<I", at) * num_tiles + struct.pack("<I", len(data)) * num_tiles
    return tiff_of_tags(grey_tags(width, height, compression=8) | tags, tables + data)


def chained_tiff(num_directories, *, loops=False):
    """Directories that each lead to the next; the last to the first if it `loops`."""
    tags = grey_tags(10, 10) | {273: (4, 1, 8), 278: (4, 1, 10), 279: (4, 1, 100)}
    directory = tiff_of_tags(tags, data_at=0)[8:-4]
    step = len(directory) + 4
    parts = [directory + struct.pack("<I", 8 + step * number) for number in range(1, num_directories)]
    return b"II*\0" + struct.pack("<I", 8) + b"".join(parts) + directory + struct.pack("<I", 8 if loops else 0)


# R11: mutated files


def seeds():
    """Small valid files of all formats and of the ways to write them: {name: bytes}."""
    rgb, grey = Image.fromarray(noise(40, 48, 3)), Image.fromarray(noise(40, 48))
    exif = Image.Exif()
    exif[274] = 6
    as_vips = pyvips.Image.new_from_array(noise(40, 48, 3), interpretation="srgb")
    large = noise(300, 300, 3)
    return {
        "rgb.png": encoded(rgb, "PNG"),
        "palette.png": encoded(rgb.quantize(17), "PNG", exif=exif),
        "bit.png": encoded(grey.convert("1"), "PNG"),
        "alpha.png": encoded(Image.fromarray(noise(40, 48, 4)), "PNG"),
        "deep.png": encoded(Image.fromarray(noise(40, 48, dtype=np.uint16)), "PNG"),
        "interlaced.png": as_vips.pngsave_buffer(interlace=True),
        "animated.png": encoded(rgb, "PNG", save_all=True, append_images=[rgb.rotate(180)]),
        "baseline.jpg": encoded(rgb, "JPEG", exif=exif, comment=b"note"),
        "progressive.jpg": encoded(rgb, "JPEG", progressive=True),
        "restart.jpg": encoded(grey, "JPEG", restart_marker_rows=1),
        "cmyk.jpg": encoded(rgb.convert("CMYK"), "JPEG"),
        "strips.tif": tiff(large, rowsperstrip=16),
        "tiles.tif": tiff(large, tile=(64, 64), compression="zlib", predictor=2),
        "planar.tif": tiff(np.moveaxis(large, -1, 0), planarconfig="separate"),
        "big.tif": tiff(large[..., 0], photometric="minisblack", bigtiff=True),
        "lzw.tif": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": encoded(rgb, "TIFF", compression="jpeg"),
        "fax.tif": encoded(grey.convert("1"), "TIFF", compression="group4"),
        "packbits.tif": encoded(grey, "TIFF", compression="packbits"),
        "pages.tif": tiff(large.swapaxes(0, 2)[:2], photometric="minisblack"),
        "ome.tif": tiff(large[..., 0], photometric="minisblack", ome=True, metadata={"PhysicalSizeX": 0.5}),
        "pyramid.tif": pyvips.Image.new_from_array(large).tiffsave_buffer(tile=True, pyramid=True, compression="lzw"),
        "lossy.webp": encoded(rgb, "WEBP", exif=exif),
        "lossless.webp": encoded(Image.fromarray(noise(40, 48, 4)), "WEBP", lossless=True),
        "animated.webp": encoded(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)]),
        "rgb.bmp": encoded(rgb, "BMP"),
        "palette.bmp": encoded(rgb.quantize(17), "BMP"),
        "runs.bmp": bmp_of_size(48, 40, compression=1, bits=8, data=b"\x30\x07\0\0" * 40 + b"\0\1"),
    }


def flip(data, dice):
    for _ in range(dice.randint(1, 12)):
        data[dice.randrange(len(data))] ^= dice.randint(1, 255)


def cut(data, dice):
    del data[dice.randrange(len(data)) :]


def lift_out(data, dice):
    at = dice.randrange(len(data))
    del data[at : at + dice.randint(1, 64)]


def insert(data, dice):
    at = dice.randrange(len(data))
    data[at:at] = dice.randbytes(dice.randint(1, 64))


def overwrite_header(data, dice):
    """Extreme numbers where formats keep sizes, counts and offsets."""
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(4, max(5, min(len(data), 220)))
        number = dice.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
        data[at : at + 4] = number.to_bytes(4, dice.choice(["little", "big"]))


def repeat_part(data, dice):
    at = dice.randrange(len(data))
    data[at:at] = data[at : at + dice.randint(1, 200)] * dice.randint(1, 50)


def mend_png(data):
    """Right checksums, so that the chunks behind them are read at all."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4


MUTATIONS = (flip, overwrite_header, cut, overwrite_header, insert, lift_out, repeat_part)


def mutated_files(number):
    """`number` files, the same each time: each seed in turn, each mutation in turn."""
    dice = random.Random(20260101)
    originals, mutations = cycle(seeds().items()), cycle(MUTATIONS)
    for index, (name, original) in enumerate(islice(originals, number)):
        data = bytearray(original)
        next(mutations)(data, dice)
        if name.endswith("png") and index % 2:
            mend_png(data)
        yield f"{index}-{name}", bytes(data)


def hand_made_files():
    rgb = Image.fromarray(noise(40, 48, 3))
    whole = {kind: encoded(rgb, kind) for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP")}
    for kind, data in whole.items():
        for share in (0.05, 0.3, 0.7, 0.95):
            yield f"truncated at {share}.{kind}", data[: int(share * len(data))]
        yield f"magic only.{kind}", data[:12]
        yield f"magic and noise.{kind}", data[:12] + random.Random(1).randbytes(5000)
        yield "wrong extension.gif", data
    script = b"<html><body><script>alert(document.cookie)</script></body></html>"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
    yield "page.png", script
    yield "drawing.png", svg
    yield "drawing.svg", b'<?xml version="1.0"?>' + svg
    yield "entities.svg", b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>'
    yield "print.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file"
    yield "print.pdf", b"%PDF-1.7\n1 0 obj"
    yield "archive.png", b"PK\x03\x04" + bytes(100)
    yield "film.png", b"\0\0\0\x18ftypmp42" + bytes(100)
    yield "photo.heic", b"\0\0\0\x18ftypheic" + bytes(100)
    yield "net.pbm", b"P6 2 2 255 " + bytes(12)
    yield "vips.v", b"\xb6\xa6\xf2\x08" + bytes(60)
    yield "matrix.mat", b"MATLAB 5.0 MAT-file" + bytes(200)
    yield "table.csv", b"1,2\n3,4\n"
    yield "one byte.png", b"\x89"
    yield "nothing.png", b""
    yield "png and page.png", whole["PNG"] + script
    yield (
        "jpeg and page.jpg",
        whole["JPEG"][:2] + b"\xff\xfe" + struct.pack(">H", len(script) + 2) + script + whole["JPEG"][2:],
    )
    yield "png and zip.png", whole["PNG"] + b"PK\x05\x06" + bytes(18)
    yield "../../../etc/passwd.png", whole["PNG"]
    yield "/etc/cron.d/job.png", whole["JPEG"]
    yield "name\0.png", whole["BMP"]
    yield "C:\\Windows\\x.tif", whole["TIFF"]
    yield "=cmd|' /C calc'!A0.png", whole["PNG"][:100]
    yield "line\nbreak\r.png", b"x"
    yield "\u202egnp.exe", whole["PNG"]
    yield "x" * 100_000 + ".png", whole["WEBP"]
    yield "\ud800.png", b"x"
    yield "tags.tif", tiff_of_tags(dict.fromkeys(range(254, 275), (12, 4294967295, 4294967280)))
    yield "no tags.tif", b"II*\0\x08\0\0\0\0\0\0\0\0\0"
    yield "zero size.tif", striped_tiff(0, 0, num_bytes=0)
    yield "zero size.png", png(0, 0, idat=b"")
    yield "negative size.bmp", bmp_of_size(-5, -5, data=bytes(100))
    yield "upside down.bmp", bmp_of_size(8, -8, data=bytes(200))


def judge(decoder, folder, files):
    """Send each file as an image and, where masks may have its format, as a mask."""
    for name, data in files:
        (folder / "source").write_bytes(data)
        began = time.monotonic()
        refusal = None
        try:
            decoder.normalise(folder / "source", folder / "target", name=name)
            stored = WorkingImage(folder / "target").read_all()
            assert stored.size
        except ImageRefused as error:
            refusal = str(error)
            assert not (folder / "target").exists()
        seconds = time.monotonic() - began
        yield Verdict(name, refusal, seconds)
        (folder / "target").unlink(missing_ok=True)
        yield judge_mask(decoder, folder / "source", name)


def judge_mask(decoder, source, name):
    began = time.monotonic()
    refusal = None
    try:
        assert decoder.read_mask(source, name=name).values.dtype == np.uint8
    except ImageRefused as error:
        refusal = str(error)
    return Verdict(name + " as a mask", refusal, time.monotonic() - began)


def resident_bytes():
    return psutil.Process().memory_info().rss


@pytest.mark.parametrize(
    ("number", "with_hand_made"),
    [pytest.param(140, False, id="140"), pytest.param(500, True, id="500 and hand-made", marks=pytest.mark.slow)],
)
def test_each_broken_file_is_refused_with_a_sentence_or_becomes_a_working_image(tmp_path, number, with_hand_made):
    files = [*mutated_files(number), *(hand_made_files() if with_hand_made else [])]
    with Decoder() as decoder:
        list(judge(decoder, tmp_path, files[:20]))  # what is loaded once does not count
        before = resident_bytes()
        verdicts = list(judge(decoder, tmp_path, files))
        growth = resident_bytes() - before
    refusals = [verdict.refusal for verdict in verdicts if verdict.refusal]
    assert [verdict for verdict in verdicts if verdict.seconds > MAX_SECONDS] == []
    assert [text for text in refusals if not SENTENCE.fullmatch(text) or str(tmp_path) in text] == []
    assert [text for text in refusals if "brought the decoder down" in text] == []
    assert len(verdicts) > len(refusals) > len(verdicts) / 4
    assert growth < MAX_PARENT_GROWTH
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(("name", "data"), seeds().items(), ids=list(seeds()))
def test_each_seed_is_a_valid_file(decoder, tmp_path, name, data):
    [image, _] = judge(decoder, tmp_path, [(name, data)])
    assert image.refusal is None


# R12: bombs

FEW_ROWS = zlib.compress((b"\0" + b"\x80" * 30) * 10)
ZEROS = deflated_zeros(200 << 20)  # 0.2 MB
RAW_ZEROS = ZEROS[2:-4]  # without the frame of zlib, as in a ZIP

IMAGE_BOMBS = {
    "PNG of 30,000 x 30,000": lambda: png(30_000, 30_000, idat=FEW_ROWS),
    "JPEG of 30,000 x 30,000": lambda: jpeg_of_size(30_000, 30_000),
    "TIFF of 30,000 x 30,000": lambda: striped_tiff(30_000, 30_000, num_bytes=1000, rows=1),
    "WebP of 16,383 x 16,383": lambda: webp_of_size(16_383, 16_383),
    "BMP of 30,000 x 30,000": lambda: bmp_of_size(30_000, 30_000),
    "PNG of 12,000 x 12,000 with 10 rows": lambda: png(12_000, 12_000, idat=FEW_ROWS),
    "JPEG of 12,000 x 12,000 with 16 rows": lambda: jpeg_of_size(12_000, 12_000),
    "BMP of 12,000 x 12,000 without pixels": lambda: bmp_of_size(12_000, 12_000),
    "TIFF with one tile of 60,000 x 60,000": lambda: tiff_of_tags(
        grey_tags(60_000, 60_000, compression=8)
        | {322: (4, 1, 60_000), 323: (4, 1, 60_000), 324: (4, 1, 300), 325: (4, 1, len(ZEROS))},
        ZEROS,
    ),
    "TIFF with one strip of 30,000 rows": lambda: striped_tiff(
        30_000, 30_000, compression=8, num_bytes=len(ZEROS), data=ZEROS
    ),
    "TIFF with a strip that is not there": lambda: striped_tiff(12_000, 12_000, num_bytes=144_000_000),
    "TIFF whose 55,000 tiles are one": lambda: shared_tile_tiff(60_000, 60_000),
    "TIFF 4 million px wide": lambda: shared_tile_tiff(3_900_000, 1024, tile=1024),
    "TIFF 100 million px high": lambda: striped_tiff(1, 100_000_000, num_bytes=100),
    "PNG with a million chunks": lambda: png(10, 10, idat=FEW_ROWS, before=png_chunk(b"teSt", b"") * 1_000_000),
}
LARGE_BUT_HARMLESS = {
    "TIFF with 100,000 directories": lambda: chained_tiff(100_000),
    "TIFF whose directories loop": lambda: chained_tiff(3, loops=True),
    "WebP of 500 frames": lambda: encoded(
        Image.new("L", (32, 32)), "WEBP", save_all=True, append_images=frames(500), lossless=True, method=0
    ),
    "APNG of 500 frames": lambda: encoded(Image.new("L", (32, 32)), "PNG", save_all=True, append_images=frames(500)),
    "TIFF of 500 pages": lambda: tiff(noise(500, 32, 32), photometric="minisblack"),
    "PNG with eight texts of 200 MB": lambda: png(
        10, 10, idat=FEW_ROWS, before=png_chunk(b"zTXt", b"a\0\0" + ZEROS) * 8
    ),
    "PNG with an international text of 200 MB": lambda: png(
        10, 10, idat=FEW_ROWS, before=png_chunk(b"iTXt", b"a\0\1\0\0\0" + ZEROS)
    ),
    "PNG with a colour profile of 200 MB": lambda: png(
        10, 10, idat=FEW_ROWS, before=png_chunk(b"iCCP", b"a\0\0" + ZEROS)
    ),
}


def frames(number):
    return [Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32), np.uint8)) for seed in range(number)]


@dataclass
class Peak:
    """The most a decoder's child has held: resident memory that is no mapped file, and bytes in files it writes."""

    child_bytes: int = 0
    disk_bytes: int = 0


@contextmanager
def watched(decoder):
    peak, stop = Peak(), threading.Event()

    def watch():
        while not stop.wait(0.005):
            with suppress(psutil.Error, OSError, AttributeError):  # there is no child, or it has just ended
                pid = decoder._child.pid
                memory = psutil.Process(pid).memory_info()
                peak.child_bytes = max(peak.child_bytes, memory.rss - memory.shared)
                peak.disk_bytes = max(peak.disk_bytes, sum(map(bytes_written, Path(f"/proc/{pid}/fd").iterdir())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield peak
    stop.set()
    watcher.join()


def bytes_written(descriptor):
    """Disk space of what is open there, nameless files included; nothing for the upload and for what is no file."""
    status = descriptor.stat()
    return 512 * status.st_blocks if stat.S_ISREG(status.st_mode) and descriptor.readlink().name != "source" else 0


def explode(folder, data):
    (folder / "source").write_bytes(data)
    with Decoder() as decoder, watched(decoder) as peak:
        verdicts = list(judge(decoder, folder, [("bomb", data)]))
    return verdicts, peak


@pytest.mark.parametrize("bomb", IMAGE_BOMBS)
def test_an_image_bomb_is_refused_cheaply(tmp_path, bomb):
    [image, mask], peak = explode(tmp_path, IMAGE_BOMBS[bomb]())
    assert SENTENCE.fullmatch(image.refusal)
    assert SENTENCE.fullmatch(mask.refusal)
    assert max(image.seconds, mask.seconds) < MAX_SECONDS
    assert peak.child_bytes < 1.1 * MAX_CHILD_BYTES  # it is looked at every 20 ms, and grows meanwhile
    assert peak.disk_bytes < MAX_DISK_BYTES
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("case", LARGE_BUT_HARMLESS)
def test_what_only_pretends_to_be_large_costs_little(tmp_path, case):
    [image, mask], peak = explode(tmp_path, LARGE_BUT_HARMLESS[case]())
    assert image.refusal is None
    assert max(image.seconds, mask.seconds) < MAX_SECONDS
    assert peak.child_bytes < MAX_CHILD_BYTES / 5
    assert peak.disk_bytes < MAX_DISK_BYTES / 10


def zipped(files, *, method=zipfile.ZIP_DEFLATED):
    """A ZIP of (name or ZipInfo, bytes)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def zip_of_entries(entries, body):
    """A ZIP whose table of contents says whatever it likes: (offset, packed size, unpacked size) for each file."""
    table = b"".join(table_entry(number, *entry) for number, entry in enumerate(entries))
    count = min(len(entries), 0xFFFF)
    return body + table + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(table), len(body), 0)


def table_entry(number, offset, packed, unpacked):
    numbers = struct.pack("<6H3L5H2L", 20, 20, 0, 8, 0, 0, 0, packed, unpacked, 10, 0, 0, 0, 0, 0, offset)
    return b"PK\x01\x02" + numbers + b"%06d.png" % number


def local_file(data, unpacked):
    header = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, 0, len(data), unpacked, 10, 0)
    return header + b"000000.png" + data


def overlapping_zip():
    """Every file is the same kernel of the archive (Fifield, A better zip bomb, 2019)."""
    kernel = local_file(RAW_ZEROS[:10_000], 900_000)
    return zip_of_entries([(0, 10_000, 900_000)] * 1000, kernel)


def quoting_zip():
    """Every file quotes the headers of those behind it, down to one kernel (Fifield, 2019)."""
    headers = [local_file(b"", 900_000) for _ in range(1000)]
    body = b"".join(headers) + RAW_ZEROS[:10_000]
    entries = [(40 * number, len(body) - 40 * number - 40, 900_000) for number in range(1000)]
    return zip_of_entries(entries, body)


def with_zip64_records(data, directory_bytes):
    """The same archive; ZIP64's records, which zipfile believes, give its table of contents another length."""
    end = data.rindex(b"PK\x05\x06")
    offset = struct.unpack_from("<L", data, end + 16)[0]
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, directory_bytes, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    return data[:end] + record + locator + data[end:]


def link():
    info = zipfile.ZipInfo("link.png")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


def encrypted_zip():
    data = bytearray(zipped([("a.png", b"secret")]))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def understated_zip():
    """A file of 200 MB that says it has 20 MB, to pass for a ratio of 100."""
    return zip_of_entries([(0, len(RAW_ZEROS), 20_000_000)], local_file(RAW_ZEROS, 20_000_000))


ZIP_BOMBS = {
    "nested": lambda: zipped([("inner.zip", zipped([("a.png", b"x")]))]),
    "nested under another name": lambda: zipped([("inner.png", zipped([("a.png", b"x")]))]),
    "gzip inside": lambda: zipped([("inner.png", b"\x1f\x8b" + bytes(50))]),
    "overlapping": overlapping_zip,
    "quoting": quoting_zip,
    "100,000 entries": lambda: zip_of_entries([(0, 0, 0)] * 100_000, b""),
    "100,000 entries that say they are one": lambda: zip_of_entries([(0, 0, 0)] * 100_000, b"").replace(
        struct.pack("<2H", 0xFFFF, 0xFFFF), struct.pack("<2H", 1, 1)
    ),
    "3,000 files": lambda: zipped([(f"{number}.png", b"x") for number in range(3000)]),
    "names that lead out": lambda: zipped([(name, b"x") for name in ("../a", "/a", "..\\a", "C:\\a", "a/../../a")]),
    "link": lambda: zipped([(link(), b"/etc/passwd")]),
    "ratio": lambda: zipped([("zeros.bmp", bytes(50_000_000))]),
    "more than 1 GB": lambda: zip_of_entries(
        [(40 * n, 0, 100_000_000) for n in range(11)], local_file(b"", 10**8) * 11
    ),
    "encrypted": encrypted_zip,
    "understated size": understated_zip,
    "ZIP64 with a table of 4 EB": lambda: with_zip64_records(zipped([("a.png", b"x")]), 1 << 62),
    "ZIP64 with a table of 1 GB": lambda: with_zip64_records(zipped([("a.png", b"x")]), 1 << 30),
    "bzip2": lambda: zipped([("a.bmp", bytes(50_000_000))], method=zipfile.ZIP_BZIP2),
    "LZMA": lambda: zipped([("a.bmp", bytes(50_000_000))], method=zipfile.ZIP_LZMA),
    "cut off": lambda: zipped([("a.png", noise(100, 100).tobytes())])[:-30],
    "no ZIP": lambda: b"PK\x03\x04 but no more",
}


def unpack(source, folder):
    """The refusals of an archive as a whole or of its files, and the bytes that were unpacked."""
    try:
        files = list(unpack_archive(source, folder, name="bomb.zip"))
    except ArchiveRefused as refusal:
        return [str(refusal)], 0
    return [file.refusal for file in files], sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize("bomb", ZIP_BOMBS)
def test_a_zip_bomb_is_refused_cheaply(tmp_path, bomb):
    (tmp_path / "bomb.zip").write_bytes(ZIP_BOMBS[bomb]())
    (tmp_path / "files").mkdir()
    before, began = resident_bytes(), time.monotonic()
    refusals, num_bytes = unpack(tmp_path / "bomb.zip", tmp_path / "files")
    assert time.monotonic() - began < MAX_SECONDS
    assert resident_bytes() - before < MAX_PARENT_GROWTH
    assert [text for text in refusals if not SENTENCE.fullmatch(text)] == []
    assert num_bytes == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bomb.zip", "files"]
