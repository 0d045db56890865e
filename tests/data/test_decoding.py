"""What becomes of an uploaded file: pixel truth, notices, refusals, and a child process that may die."""

import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
import pyvips
import tifffile
from PIL import ExifTags, Image, ImageCms

from axons.data.decoding import DecodeLimits, Decoder
from axons.errors import ImageRefused

HEIGHT, WIDTH = 37, 52  # neither square nor a multiple of anything

GEOMETRY = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}
SECRETS = (b"SECRET-MAKER", b"SECRET-GPS", b"SECRET-THUMBNAIL", b"SECRET-XMP", b"acsp")  # the last in every ICC profile


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as shared:
        yield shared


@pytest.fixture
def normalise(decoder, tmp_path):
    """Send bytes to the decoder; returns what it says and the (H, W, C) pixels it stored."""

    def send(data, name="upload", by=decoder):
        (tmp_path / "source").write_bytes(data)
        facts = by.normalise(tmp_path / "source", tmp_path / "target", name=name)
        return facts, stored_pixels(tmp_path / "target")

    return send


@pytest.fixture
def read_mask(decoder, tmp_path):
    def send(data, name="mask"):
        (tmp_path / "source").write_bytes(data)
        return decoder.read_mask(tmp_path / "source", name=name)

    return send


def stored_pixels(path):
    pixels = tifffile.imread(path, key=0)
    return pixels.reshape(*pixels.shape[:2], -1)


def noise(channels=3, dtype=np.uint8):
    shape = (HEIGHT, WIDTH, channels)
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def grey():
    return Image.fromarray(noise(1)[..., 0])


def colour():
    return Image.fromarray(noise(3))


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels, **options):
    buffer = io.BytesIO()
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    tifffile.imwrite(buffer, pixels, **{"photometric": "minisblack", "metadata": None} | options)
    return buffer.getvalue()


def with_tags(data, numbers):
    """A TIFF with other numbers in some of its tags."""
    changed = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        for tag, number in numbers.items():
            struct.pack_into("<I", changed, opened.pages[0].tags[tag].valueoffset, number)
    return bytes(changed)


def vips_png(pixels, interpretation):
    return pyvips.Image.new_from_array(pixels, interpretation=interpretation).pngsave_buffer()


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width, height):
    """A PNG that promises pixels and ends."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")


def text_only(parameter):
    """The name of a test case: bytes make none."""
    return parameter if isinstance(parameter, str) else ""


def on_white(pixels):
    """What (H, W, C + 1) with alpha looks like on white paper, as (H, W, C) float."""
    white = np.iinfo(pixels.dtype).max
    alpha = pixels[..., -1:] / white
    return pixels[..., :-1] * alpha + white * (1 - alpha)


# Normal files


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
    ],
)
@pytest.mark.parametrize("picture", [grey(), colour()], ids=["grey", "colour"])
def test_a_lossless_file_keeps_its_values(normalise, kind, options, picture):
    expected = np.asarray(picture if kind != "WEBP" else picture.convert("RGB"))
    facts, pixels = normalise(encoded(picture, kind, **options))
    assert np.array_equal(pixels.squeeze(), expected)
    assert (facts.height, facts.width, facts.channels, facts.dtype) == (*pixels.shape, "uint8")
    assert facts.notices == []


@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 90, "progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("picture", [grey(), colour()], ids=["grey", "colour"])
def test_a_jpeg_is_decoded_as_others_decode_it(normalise, options, picture):
    data = encoded(picture, "JPEG", **options)
    _, pixels = normalise(data)
    assert np.array_equal(pixels.squeeze(), np.asarray(Image.open(io.BytesIO(data))))


def test_a_lossy_webp_is_decoded_as_others_decode_it(normalise):
    data = encoded(colour(), "WEBP", quality=80)
    _, pixels = normalise(data)
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encoded(grey(), "PNG"), "PNG"),
        (encoded(grey(), "JPEG"), "JPEG"),
        (encoded(grey(), "TIFF"), "TIFF"),
        (tiff(noise(1), bigtiff=True), "TIFF"),
        (tiff(noise(1), byteorder=">"), "TIFF"),
        (encoded(grey(), "WEBP"), "WebP"),
        (encoded(grey(), "BMP"), "BMP"),
    ],
    ids=text_only,
)
def test_the_format_is_told_by_the_content(normalise, data, kind):
    facts, _ = normalise(data, name="no extension")
    assert (facts.format, facts.notices) == (kind, [])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "zlib", "predictor": 2}])
def test_16_bit_values_are_kept_in_a_tiff(normalise, channels, options):
    image = noise(channels, np.uint16)
    facts, pixels = normalise(tiff(image, photometric=["minisblack", "rgb"][channels // 2], **options))
    assert (facts.dtype, facts.channels) == ("uint16", channels)
    assert np.array_equal(pixels, image)


@pytest.mark.parametrize(("channels", "interpretation"), [(1, "grey16"), (3, "rgb16")])
def test_16_bit_values_are_kept_in_a_png(normalise, channels, interpretation):
    image = noise(channels, np.uint16)
    facts, pixels = normalise(vips_png(image, interpretation))
    assert facts.dtype == "uint16"
    assert np.array_equal(pixels, image)


@pytest.mark.parametrize(
    "data",
    [encoded(grey().convert("1"), kind) for kind in ("PNG", "TIFF", "BMP")],
    ids=["PNG", "TIFF", "BMP"],
)
def test_one_bit_becomes_black_and_white(normalise, data):
    _, pixels = normalise(data)
    assert np.array_equal(pixels[..., 0], np.where(np.asarray(grey().convert("1")), 255, 0))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_a_palette_becomes_its_colours(normalise, kind):
    picture = colour().quantize(13)
    _, pixels = normalise(encoded(picture, kind))
    assert np.array_equal(pixels, np.asarray(picture.convert("RGB")))


def test_a_tiff_whose_zero_is_white_is_turned_over(normalise):
    _, pixels = normalise(tiff(noise(1)[..., 0], photometric="miniswhite"))
    assert np.array_equal(pixels, 255 - noise(1))


def test_a_planar_tiff_is_interleaved(normalise):
    image = noise(3)
    _, pixels = normalise(tiff(np.moveaxis(image, -1, 0), photometric="rgb", planarconfig="separate"))
    assert np.array_equal(pixels, image)


def test_an_interlaced_png_keeps_its_values(normalise):
    data = pyvips.Image.new_from_array(noise(3), interpretation="srgb").pngsave_buffer(interlace=True)
    _, pixels = normalise(data)
    assert np.array_equal(pixels, noise(3))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparent_parts_become_white_and_the_person_is_told(normalise, kind):
    image = noise(4)
    facts, pixels = normalise(encoded(Image.fromarray(image), kind, lossless=True, exact=True))
    assert np.abs(pixels - on_white(image)).max() <= 1
    assert facts.notices == ["the alpha channel was removed; transparent parts became white"]


@pytest.mark.parametrize(("channels", "interpretation"), [(2, "grey16"), (4, "rgb16")])
def test_transparency_of_16_bits_loses_no_depth(normalise, channels, interpretation):
    image = noise(channels, np.uint16)
    facts, pixels = normalise(vips_png(image, interpretation))
    assert facts.dtype == "uint16"
    assert np.abs(pixels - on_white(image)).max() <= 1


def test_grey_with_transparency_becomes_grey_on_white(normalise):
    image = noise(2)
    facts, pixels = normalise(encoded(Image.fromarray(image, "LA"), "PNG"))
    assert np.abs(pixels - on_white(image)).max() <= 1
    assert facts.channels == 1


@pytest.mark.parametrize("extra", [1, 2], ids=["associated", "unassociated"])
def test_both_kinds_of_alpha_of_a_tiff_are_understood(normalise, extra):
    straight = noise(4)
    stored = straight.copy()
    stored[..., :3] = [straight[..., :3], np.rint(straight[..., :3] * (straight[..., 3:] / 255))][extra == 1]
    _, pixels = normalise(tiff(stored, photometric="rgb", extrasamples=[extra]))
    assert np.abs(pixels - on_white(straight)).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted_to_rgb_with_a_notice(normalise, kind):
    inks = np.zeros((40, 64, 4), np.uint8)  # paper, cyan, magenta, black: 16 columns each
    inks[:, 16:32, 0] = inks[:, 32:48, 1] = inks[:, 48:, 3] = 255
    facts, pixels = normalise(encoded(Image.fromarray(inks, "CMYK"), kind, quality=95))
    paper, cyan, magenta, black = (pixels[20, column].astype(int) for column in (8, 24, 40, 56))
    assert facts.notices == ["CMYK colours were converted to RGB"]
    assert paper.min() > 245 and black.max() < 60
    assert cyan[0] < 60 < 120 < min(cyan[1:]) and magenta[1] < 60 < 120 < magenta[0]


def test_the_working_image_is_a_tiled_pyramid_without_loss(normalise, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    normalise(encoded(Image.fromarray(image), "PNG"))
    with tifffile.TiffFile(tmp_path / "target") as stored:
        assert [page.shape[:2] for page in stored.pages] == [(700, 900), (350, 450), (175, 225)]
        assert (stored.pages[0].tilewidth, stored.pages[0].tilelength) == (256, 256)
        assert np.array_equal(stored.pages[0].asarray(), image)


def test_real_micrographs_keep_their_values(normalise, real_images):
    path = real_images / "images" / "sub-rat3_data9.png"
    _, pixels = normalise(path.read_bytes(), name=path.name)
    assert np.array_equal(pixels.squeeze(), np.asarray(Image.open(path)))


# Notices


@pytest.mark.parametrize(
    ("data", "notice"),
    [
        (
            encoded(colour(), "WEBP", save_all=True, append_images=[colour().rotate(180)]),
            "only the first of 2 pages or frames was taken",
        ),
        (
            encoded(colour(), "PNG", save_all=True, append_images=[colour().rotate(180)]),
            "only the first frame of the animation was taken",
        ),
        (
            encoded(colour(), "TIFF", save_all=True, append_images=[colour().rotate(180)] * 2),
            "only the first of 3 pages or frames was taken",
        ),
    ],
    ids=["WebP", "APNG", "TIFF"],
)
def test_of_several_frames_the_first_is_taken_with_a_notice(normalise, data, notice):
    facts, pixels = normalise(data)
    assert facts.notices == [notice]
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("factor", [2, 4])
def test_a_pyramid_is_not_called_several_pages(normalise, factor):
    levels = [np.zeros((side, side), np.uint8) for side in (256, 256 // factor)]
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(levels[0], photometric="minisblack", tile=(64, 64), metadata=None)
        writer.write(levels[1], photometric="minisblack", tile=(64, 64), subfiletype=1, metadata=None)
    facts, _ = normalise(buffer.getvalue())
    assert facts.notices == []


def test_a_working_image_can_be_uploaded_again(normalise, tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    normalise(encoded(Image.fromarray(image), "PNG"))
    facts, pixels = normalise((tmp_path / "target").read_bytes())
    assert facts.notices == []
    assert np.array_equal(pixels, image)


@pytest.mark.parametrize(
    ("kind", "name", "notice"),
    [
        ("JPEG", "cell.png", "the content is JPEG although the name ends in '.png'"),
        ("PNG", "cell.TIF", "the content is PNG although the name ends in '.tif'"),
    ],
)
def test_a_wrong_extension_is_told(normalise, kind, name, notice):
    facts, _ = normalise(encoded(grey(), kind), name=name)
    assert facts.notices == [notice]


@pytest.mark.parametrize("name", ["cell.jpg", "cell.JPEG", "cell.jfif", "cell"])
def test_a_right_extension_is_not_worth_a_notice(normalise, name):
    facts, _ = normalise(encoded(grey(), "JPEG"), name=name)
    assert facts.notices == []


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_dropped_colour_profile_is_told(normalise, kind):
    facts, _ = normalise(encoded(colour(), kind, icc_profile=icc_profile(), lossless=True))
    assert facts.notices == ["the colour profile was dropped; the values are unchanged"]


def test_bytes_in_a_jpeg_that_do_not_belong_there_are_told(normalise):
    data = encoded(grey(), "JPEG", restart_marker_rows=1)
    at = data.index(b"\xff\xd1")
    facts, _ = normalise(data[:at] + b"\x11\x22" * 10 + data[at:])
    assert len(facts.notices) == 1
    assert "slightly damaged" in facts.notices[0] and "20 extraneous bytes" in facts.notices[0]


def test_a_complaint_about_one_file_is_not_told_of_the_next(normalise):
    with pytest.raises(ImageRefused):
        normalise(tiff(noise(1))[:-500])
    facts, _ = normalise(encoded(grey(), "TIFF"))
    assert facts.notices == []


# Scale and place


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [(0.25, "µm", 0.25), (0.25, "\u03bcm", 0.25), (250, "nm", 0.25), (0.00025, "mm", 0.25), (3, "pixel", None)],
)
def test_the_pixel_size_of_ome_is_kept(normalise, size, unit, expected):
    metadata = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit}
    facts, _ = normalise(tiff(noise(1)[..., 0], ome=True, metadata=metadata))
    assert facts.pixel_size_um == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    ("unit", "expected"), [("micron", 0.2), ("um", 0.2), ("\\u00B5m", 0.2), ("nm", 0.0002), ("inch", None)]
)
def test_the_pixel_size_of_imagej_is_kept(normalise, unit, expected):
    facts, _ = normalise(tiff(noise(1)[..., 0], imagej=True, resolution=(5, 5), metadata={"unit": unit}))
    assert facts.pixel_size_um == (expected and pytest.approx(expected, rel=1e-6))


def test_dots_per_inch_are_no_pixel_size(normalise):
    facts, _ = normalise(encoded(grey(), "TIFF", dpi=(300, 300)))
    assert facts.pixel_size_um is None


@pytest.mark.parametrize("pixels", ['PhysicalSizeX="wide"', "", 'PhysicalSizeX="1"><Channel>&b;</Channel></Pixels'])
def test_a_broken_pixel_size_does_not_cost_the_image(normalise, pixels):
    entity = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&c;">]>'
    description = f'<?xml version="1.0"?>{entity}<OME xmlns="x"><Image><Pixels {pixels}/></Image></OME>'
    facts, _ = normalise(tiff(noise(1), description=description))
    assert facts.notices == ["the pixel size in the file cannot be read; set it by hand"]


def test_geotiff_tags_are_kept(normalise):
    tags = [
        (33550, "d", 3, (0.5, 0.5, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 4e5, 5e6, 0.0), True),
        (34735, "H", 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),
        (34737, "s", 0, "WGS 84|", True),
    ]
    facts, _ = normalise(tiff(noise(1), extratags=tags))
    assert facts.geo == {
        "33550": [0.5, 0.5, 0.0],
        "33922": [0.0, 0.0, 0.0, 4e5, 5e6, 0.0],
        "34735": [1, 1, 0, 1, 1024, 0, 1, 1],
        "34737": "WGS 84|",
    }


def test_a_turned_picture_loses_the_geo_reference_that_it_had_before(normalise):
    tags = [(33550, "d", 3, (10.0, 10.0, 0.0), True), (274, "H", 1, 6, True)]
    facts, _ = normalise(tiff(np.zeros((4, 6), np.uint8), photometric="minisblack", extratags=tags))
    assert (facts.height, facts.width, facts.geo) == (6, 4, None)
    assert "the geo-reference, which is that of the picture before it was turned, was dropped" in facts.notices


def test_an_endless_geo_reference_is_dropped_with_a_notice(normalise):
    facts, _ = normalise(tiff(noise(1), extratags=[(33922, "d", 60_000, (0.0,) * 60_000, True)]))
    assert facts.geo is None
    assert facts.notices == ["the geo-reference has more than 10000 values and was dropped"]


# Refusals


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "'upload' is empty (0 bytes); send the file again"),
        (b"hello, world", "'upload' is not an image we read (it begins with b'hello, w'); save it as PNG, JPEG, TIFF,"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image we read (it begins with b'<svg xml')"),
        (b"<!DOCTYPE html><script>", "is not an image we read (it begins with b'<!DOCTYP')"),
        (encoded(colour(), "GIF"), "is not an image we read (it begins with b'GIF87a4"),
        (encoded(colour(), "EPS"), "is not an image we read (it begins with b'%!PS-Ado')"),
        (png_header(30_000, 30_000), "has 30000 x 30000 = 900 Mpx, the limit is 150 Mpx; cut it into parts, or save"),
        (
            with_tags(tiff(noise(1), tile=(16, 16)), {322: 32_768, 323: 16_384}),
            "has tiles of 32768 x 16384 px, a row of which has 512 MB; save it with tiles of 256 px",
        ),
        (tiff(noise(1).astype(np.float32)), "has float32 pixels; export it with 8 or 16 bits a channel"),
        (tiff(noise(1).astype(np.int8)), "has int8 pixels; export it with 8 or 16 bits a channel"),
        (tiff(noise(1).astype(np.int16)), "has int16 pixels; export it with 8 or 16 bits a channel"),
        (tiff(noise(1).astype(np.uint32)), "has uint32 pixels; export it with 8 or 16 bits a channel"),
        (tiff(noise(5), planarconfig="contig"), "has 5 channels (b-w); export it in grey or RGB"),
        (tiff(noise(2), planarconfig="contig"), "has 2 channels (b-w); export it in grey or RGB"),
        (tiff(noise(4), photometric="rgb", extrasamples=[0]), "has 4 channels (srgb); export it in grey or RGB"),
    ],
    ids=text_only,
)
def test_what_cannot_become_a_working_image_is_refused_with_a_sentence(normalise, tmp_path, data, message):
    with pytest.raises(ImageRefused) as refusal:
        normalise(data)
    assert message in str(refusal.value)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    "data",
    [
        encoded(colour(), "PNG"),
        encoded(colour(), "JPEG"),
        encoded(colour(), "JPEG", progressive=True),
        encoded(colour(), "BMP"),
        encoded(colour(), "WEBP", lossless=True),
        tiff(noise(3), photometric="rgb"),
        tiff(noise(3), photometric="rgb", tile=(16, 16)),
        tiff(noise(3), photometric="rgb", compression="zlib"),
        tiff(noise(1, np.uint16), rowsperstrip=8),
    ],
    ids=["PNG", "JPEG", "progressive", "BMP", "WebP", "TIFF", "tiled", "deflate", "strips"],
)
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_a_truncated_file_is_refused(normalise, tmp_path, data, share):
    with pytest.raises(ImageRefused, match=r"^'upload' cannot be decoded \(.+\); open it in an image editor"):
        normalise(data[: int(share * len(data))])
    assert not (tmp_path / "target").exists()


def test_a_jpeg_whose_middle_is_missing_is_refused(normalise):
    data = encoded(colour(), "JPEG")
    with pytest.raises(ImageRefused, match="part of the picture is missing.*premature end of data segment"):
        normalise(data[: len(data) // 2] + data[-2:])


def test_a_file_over_the_size_limit_is_refused(normalise):
    with Decoder(DecodeLimits(max_bytes=1000)) as strict, pytest.raises(ImageRefused, match="has 0.0 GB, the limit is"):
        normalise(encoded(colour(), "BMP"), by=strict)


def test_a_tiled_tiff_may_be_larger_than_the_rest(normalise):
    image = np.zeros((40, 60), np.uint8)
    limits = DecodeLimits(max_pixels=2000, max_tiled_pixels=2500)
    with Decoder(limits) as strict:
        facts, _ = normalise(tiff(image, tile=(16, 16)), by=strict)
        with pytest.raises(ImageRefused, match="the limit is 0 Mpx; cut it into parts, or save it as a tiled TIFF$"):
            normalise(tiff(image), by=strict)
        with pytest.raises(ImageRefused, match="cut it into parts$"):
            normalise(tiff(np.zeros((60, 60), np.uint8), tile=(16, 16)), by=strict)
    assert facts.height == 40


def test_a_refusal_names_no_path_of_the_server(normalise, tmp_path):
    with pytest.raises(ImageRefused) as refusal:
        normalise(b"II*\0garbage that is no TIFF")
    assert str(tmp_path) not in str(refusal.value)


def test_a_polyglot_loses_what_is_not_picture(normalise, tmp_path):
    page = b"<html><script>alert(1)</script></html>"
    data = encoded(colour(), "PNG")
    _, pixels = normalise(data[:33] + png_chunk(b"tEXt", b"Comment\0" + page) + data[33:] + page)
    assert np.array_equal(pixels, noise(3))
    assert b"script" not in (tmp_path / "target").read_bytes()


@pytest.mark.parametrize("name", ["../../etc/passwd.png", "a\0b.png", "x" * 5000 + ".png", "\udcff.png", "a\nb.png"])
def test_a_name_is_only_text(normalise, tmp_path, name):
    facts, _ = normalise(encoded(grey(), "PNG"), name=name)
    with pytest.raises(ImageRefused) as refusal:
        normalise(b"x", name=name)
    assert facts.notices == []
    assert repr(name) in str(refusal.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


# R13: pixel truth and privacy


def icc_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation):
    """A camera's EXIF block: place, maker note and thumbnail, each with a secret."""
    thumbnail = encoded(grey(), "JPEG", comment=b"SECRET-THUMBNAIL")
    maker, place = b"SECRET-MAKER\0\0\0\0", b"SECRET-GPS\0\0\0\0\0\0"
    ifd0, exif_ifd, gps_ifd, ifd1 = 8, 64, 96, 128
    entry = struct.Struct("<HHII").pack

    def directory(following, *entries):
        return struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", following)

    blob = bytearray(200 + len(thumbnail))
    blob[:8] = struct.pack("<2sHI", b"II", 42, ifd0)
    parts = {
        ifd0: directory(ifd1, entry(274, 3, 1, orientation), entry(34665, 4, 1, exif_ifd), entry(34853, 4, 1, gps_ifd)),
        exif_ifd: directory(0, entry(37500, 7, len(maker), 168)),
        gps_ifd: directory(0, entry(29, 2, len(place), 184)),
        ifd1: directory(0, entry(259, 3, 1, 6), entry(513, 4, 1, 200), entry(514, 4, 1, len(thumbnail))),
        168: maker,
        184: place,
        200: thumbnail,
    }
    for at, data in parts.items():
        blob[at : at + len(data)] = data
    return b"Exif\0\0" + bytes(blob)


XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>SECRET-XMP</x:xmpmeta>"


def camera_png(picture, orientation):
    data = encoded(picture, "PNG", exif=exif(orientation), icc_profile=icc_profile())
    return with_png_text(data)


def camera_png_16(pixels, interpretation, orientation):
    data = with_png_text(vips_png(pixels, interpretation))
    return data[:33] + png_chunk(b"eXIf", exif(orientation)[6:]) + data[33:]


def with_png_text(data):
    return data[:33] + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + data[33:]


def camera_tiff(pixels, photometric, orientation):
    tags = [
        (274, "H", 1, orientation, True),
        (700, "B", len(XMP), XMP, True),
        (37500, "B", 12, b"SECRET-MAKER", True),
        (34853, "B", 10, b"SECRET-GPS", True),
    ]
    return tiff(pixels, photometric=photometric, extratags=tags, iccprofile=icc_profile())


def camera(picture, kind, orientation, **options):
    return encoded(picture, kind, exif=exif(orientation), icc_profile=icc_profile(), xmp=XMP, **options)


def decoded_upright(data):
    """What Pillow decodes, without turning it."""
    return np.asarray(Image.open(io.BytesIO(data))).astype(float)


MODES = {
    "PNG 1": (lambda o: camera_png(grey().convert("1"), o), lambda _: 255.0 * np.asarray(grey().convert("1"))),
    "PNG L": (lambda o: camera_png(grey(), o), lambda _: noise(1)[..., 0]),
    "PNG LA": (lambda o: camera_png(Image.fromarray(noise(2), "LA"), o), lambda _: on_white(noise(2))[..., 0]),
    "PNG P": (lambda o: camera_png(colour().quantize(9), o), lambda _: np.asarray(colour().quantize(9).convert("RGB"))),
    "PNG RGB": (lambda o: camera_png(colour(), o), lambda _: noise(3)),
    "PNG RGBA": (lambda o: camera_png(Image.fromarray(noise(4)), o), lambda _: on_white(noise(4))),
    "PNG I;16": (
        lambda o: camera_png_16(noise(1, np.uint16), "grey16", o),
        lambda _: noise(1, np.uint16)[..., 0] / 257,
    ),
    "TIFF RGB;16": (lambda o: camera_tiff(noise(3, np.uint16), "rgb", o), lambda _: noise(3, np.uint16) / 257),
    "TIFF L": (lambda o: camera_tiff(noise(1)[..., 0], "minisblack", o), lambda _: noise(1)[..., 0]),
    "JPEG L": (lambda o: camera(grey(), "JPEG", o), decoded_upright),
    "JPEG RGB": (lambda o: camera(colour(), "JPEG", o, quality=95), decoded_upright),
    "WebP RGB": (lambda o: camera(colour(), "WEBP", o, lossless=True), lambda _: noise(3)),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_and_orientation_keeps_its_pixels_and_loses_its_metadata(normalise, tmp_path, mode, orientation):
    build, truth = MODES[mode]
    data = build(orientation)
    facts, pixels = normalise(data)
    scale = 257 if facts.dtype == "uint16" else 1
    expected = GEOMETRY[orientation](truth(data))
    assert np.abs(pixels.squeeze() / scale - expected).max() <= 1
    stored = (tmp_path / "target").read_bytes()
    assert [secret for secret in SECRETS if secret in data] != []
    assert [secret for secret in SECRETS if secret in stored] == []
    assert private_tags(tmp_path / "target") == set()


def private_tags(path):
    """XMP, EXIF, maker note, GPS, ICC, IPTC, camera, software, date, artist, description."""
    with tifffile.TiffFile(path) as stored:
        tags = {tag.code for page in stored.pages for tag in page.tags}
    return tags & {700, 34665, 37500, 34853, 34675, 33723, 271, 272, 305, 306, 315, 270, 34377}


@pytest.mark.parametrize("orientation", range(2, 9))
def test_cmyk_is_turned_too(normalise, orientation):
    picture = colour().convert("CMYK")
    _, upright = normalise(encoded(picture, "JPEG"))
    facts, turned = normalise(encoded(picture, "JPEG", exif=exif(orientation)))
    assert np.array_equal(turned, GEOMETRY[orientation](upright))
    assert facts.notices[0] == "the picture was turned as its EXIF orientation says"


def test_a_tiled_tiff_is_turned_too(normalise):
    image = np.random.default_rng(3).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    data = tiff(image, photometric="rgb", tile=(64, 64), extratags=[(274, "H", 1, 6, True)])
    _, pixels = normalise(data)
    assert np.array_equal(pixels, GEOMETRY[6](image))


# Masks


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_a_mask_keeps_its_indices(read_mask, kind):
    mask = read_mask(encoded(grey(), kind))
    assert np.array_equal(mask.values, noise(1)[..., 0])
    assert (mask.palette, mask.notices) == ([], [])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_palette_mask_gives_indices_and_palette(read_mask, kind):
    picture = Image.fromarray((noise(1)[..., 0] % 3), "P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    mask = read_mask(encoded(picture, kind))
    assert np.array_equal(mask.values, noise(1)[..., 0] % 3)
    assert mask.palette[:3] == [[0, 0, 0], [255, 0, 0], [0, 0, 255]]


def test_a_one_bit_mask_gives_zero_and_one(read_mask):
    mask = read_mask(encoded(grey().convert("1"), "PNG"))
    assert np.array_equal(mask.values, np.asarray(grey().convert("1")))


def test_a_colour_mask_gives_colours(read_mask):
    assert np.array_equal(read_mask(encoded(colour(), "PNG")).values, noise(3))


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 4), ("LA", 2)])
def test_transparency_of_a_mask_is_ignored_with_a_notice(read_mask, mode, channels):
    image = noise(channels)
    mask = read_mask(encoded(Image.fromarray(image, mode), "PNG"))
    assert np.array_equal(mask.values, image[..., :-1].squeeze())
    assert mask.notices == ["the mask's transparency was ignored"]


def test_a_16_bit_mask_of_small_values_is_read(read_mask):
    values = noise(1)[..., 0].astype(np.uint16)
    assert np.array_equal(read_mask(encoded(Image.fromarray(values), "PNG")).values, values)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGB"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_mask_is_turned_as_its_image_would_be(read_mask, kind, mode, orientation):
    shown = Image.Exif()
    shown[ExifTags.Base.Orientation] = orientation
    values = np.tile(noise(1)[..., 0] % 2, (2, 1))
    picture = {
        "1": lambda: Image.fromarray(values > 0),
        "L": lambda: Image.fromarray(values),
        "P": lambda: Image.fromarray(values).convert("P"),
        "I;16": lambda: Image.fromarray(values.astype(np.uint16)),
        "RGB": lambda: Image.merge("RGB", [Image.fromarray(values)] * 3),
    }[mode]()
    mask = read_mask(encoded(picture, kind, exif=shown))
    assert np.array_equal(mask.values.reshape(*mask.values.shape[:2], -1)[..., 0], GEOMETRY[orientation](values))
    assert mask.notices == ["the mask was turned as its EXIF orientation says"]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_of_a_mask_with_several_frames_the_first_is_taken_with_a_notice(read_mask, kind):
    mask = read_mask(encoded(grey(), kind, save_all=True, append_images=[grey().rotate(180)]))
    assert np.array_equal(mask.values, noise(1)[..., 0])
    assert mask.notices[0].startswith("only the first ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encoded(grey(), "JPEG"), "'mask' is a JPEG, which may blur the edges of classes; export the mask as PNG"),
        (encoded(grey(), "WEBP"), "'mask' is a WebP, which may blur the edges of classes; export the mask as PNG"),
        (encoded(colour(), "TIFF", compression="jpeg"), "is compressed as jpeg, which blurs the edges of classes"),
        (vips_png(noise(1, np.uint16), "grey16"), "has mask values up to 65"),
        (vips_png(noise(3, np.uint16), "rgb16"), "has colours of 16 bits a channel; export the mask with 8 bits"),
        (tiff(noise(1).astype(np.float32)), "is a mask in mode 'F'; save it as 8-bit PNG of class indices"),
        (png_header(30_000, 30_000), "the limit is 150 Mpx; cut image and mask into parts"),
        (encoded(grey(), "PNG")[:-300], "'mask' cannot be decoded (image file is truncated"),
        (b"", "'mask' is empty (0 bytes); send the file again"),
    ],
    ids=text_only,
)
def test_what_cannot_become_a_mask_is_refused_with_a_sentence(read_mask, data, message):
    with pytest.raises(ImageRefused) as refusal:
        read_mask(data)
    assert message in str(refusal.value)


# The child


def child_of(decoder):
    return psutil.Process(decoder._running_child().pid)


def test_a_child_that_was_killed_is_replaced(normalise):
    with Decoder() as fresh:
        first = child_of(fresh)
        first.kill()
        first.wait()
        facts, _ = normalise(encoded(grey(), "PNG"), by=fresh)
        assert child_of(fresh) != first
    assert facts.format == "PNG"


def test_a_child_killed_at_work_costs_one_file(normalise, tmp_path):
    with Decoder() as fresh:
        child = child_of(fresh)
        child.suspend()
        threading.Timer(0.2, child.kill).start()
        with pytest.raises(ImageRefused, match="^'upload' brought the decoder down; open it in an image editor"):
            normalise(encoded(grey(), "PNG"), by=fresh)
        facts, _ = normalise(encoded(grey(), "PNG"), by=fresh)
    assert facts.format == "PNG"


def test_a_child_that_hangs_is_replaced(normalise):
    with Decoder(DecodeLimits(max_seconds=0.3)) as hasty:
        child = child_of(hasty)
        child.suspend()
        with pytest.raises(ImageRefused, match="^'upload' takes more than 0 s to decode; save it as a tiled TIFF or"):
            normalise(encoded(grey(), "PNG"), by=hasty)
        assert not child.is_running()
        facts, _ = normalise(encoded(grey(), "PNG"), by=hasty)
    assert facts.format == "PNG"


def large_interlaced_png():
    flat = pyvips.Image.black(6000, 6000, bands=3).copy(interpretation="srgb")  # held in memory whole: 108 MB
    return flat.pngsave_buffer(interlace=True, compression=1)


def test_a_child_that_outgrows_its_memory_is_replaced(normalise):
    with Decoder(DecodeLimits(max_resident_bytes=60 * 10**6)) as small:
        with pytest.raises(ImageRefused, match="^'upload' needs more than 0.1 GB of memory to decode; save it as"):
            normalise(large_interlaced_png(), by=small)
        facts, _ = normalise(encoded(grey(), "PNG"), by=small)
    assert facts.format == "PNG"


def test_a_child_without_address_space_refuses_the_file_and_lives_on(normalise):
    with Decoder(DecodeLimits(address_space_bytes=300 * 10**6)) as small:
        with pytest.raises(ImageRefused, match="^'upload' (cannot be decoded|brought the decoder down|needs too much)"):
            normalise(large_interlaced_png(), by=small)
        facts, _ = normalise(encoded(grey(), "PNG"), by=small)
    assert facts.format == "PNG"


def test_a_small_file_may_not_fill_the_disk(normalise, tmp_path):
    with Decoder(DecodeLimits(max_ratio=1)) as strict, pytest.raises(ImageRefused, match="to more than 1 times its si"):
        normalise(shared_tile_tiff(side=6000), by=strict)
    assert not (tmp_path / "target").exists()


def shared_tile_tiff(side):
    """A tiled TIFF of noise, all of whose tiles are the same bytes of the file."""
    tile = zlib.compress(np.random.default_rng(0).integers(0, 256, 1 << 16, np.uint8).tobytes())
    data = bytearray(tiff(np.zeros((side, side), np.uint8), tile=(256, 256), compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(data)) as whole:
        tags = whole.pages[0].tags
        offsets, counts, num_tiles = tags[324].valueoffset, tags[325].valueoffset, tags[324].count
    data[offsets : offsets + 4 * num_tiles] = struct.pack("<I", len(data)) * num_tiles
    data[counts : counts + 4 * num_tiles] = struct.pack("<I", len(tile)) * num_tiles
    return bytes(data) + tile


def test_the_child_outlives_the_thread_that_started_it(normalise):
    with Decoder() as fresh:
        starter = threading.Thread(target=child_of, args=(fresh,))
        starter.start()
        starter.join()
        facts, _ = normalise(encoded(grey(), "PNG"), by=fresh)
    assert facts.format == "PNG"


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_dies_with_its_parent(blow):
    script = (
        "import time; from axons.data.decoding import Decoder; decoder = Decoder();"
        "print(decoder._running_child().pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(blow)
    parent.wait()
    parent.stdout.close()
    child.wait(timeout=5)
    assert not child.is_running()


def test_a_busy_child_dies_with_its_parent(tmp_path):
    (tmp_path / "source").write_bytes(shared_tile_tiff(side=12_000))
    script = (
        "import sys; from pathlib import Path; from axons.data.decoding import Decoder; decoder = Decoder();"
        "print(decoder._running_child().pid, flush=True);"
        "decoder.normalise(Path(sys.argv[1], 'source'), Path(sys.argv[1], 'target'), name='large')"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    wait_until((tmp_path / "target").exists)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    child.wait(timeout=5)
    assert not child.is_running()


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_no_secret_reaches_the_child(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "hush")
    with Decoder() as fresh:
        environment = Path(f"/proc/{child_of(fresh).pid}/environ").read_bytes()
        names = {pair.split(b"=")[0] for pair in environment.split(b"\0") if pair}
    assert b"hush" not in environment
    assert names == {
        b"PYTHONPATH",
        b"TMPDIR",
        b"VIPS_CONCURRENCY",
        b"OMP_NUM_THREADS",
        b"OPENBLAS_NUM_THREADS",
        b"MALLOC_ARENA_MAX",
    }


def test_a_closed_decoder_leaves_no_process():
    fresh = Decoder()
    child = child_of(fresh)
    fresh.close()
    fresh.close()
    assert not child.is_running()


def test_the_parent_may_have_thousands_of_open_files(normalise, tmp_path):
    null = os.open(os.devnull, os.O_RDONLY)
    copies = [os.dup(null) for _ in range(min(1100, os.sysconf("SC_OPEN_MAX") - 200))]
    with Decoder() as fresh:
        facts, _ = normalise(encoded(grey(), "PNG"), by=fresh)
    [os.close(copy) for copy in [null, *copies]]
    assert facts.format == "PNG"


def test_decoding_starts_only_with_the_first_file():
    assert Decoder()._child is None


def test_exif_orientation_is_understood_by_pillow_as_the_tests_understand_it():
    assert Image.open(io.BytesIO(encoded(grey(), "JPEG", exif=exif(6)))).getexif()[ExifTags.Base.Orientation] == 6
