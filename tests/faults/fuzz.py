"""`python -m tests.faults.fuzz [SECONDS]`: hostile files by atheris, led by which lines of our readers they reach.

The first byte chooses the reader. Label files and archives are read in this process and must end as labels or in our
own refusal; images go to the confined child, which may die, but must answer with an image or a refusal. Anything else
stops the fuzzer with exit code 77, and the bytes are in a file crash-… of the folder it was started in.
"""

import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import atheris
import numpy as np

with atheris.instrument_imports(include=["axons.data", "axons.errors"]):
    from axons.data.archives import unpack_archive
    from axons.data.coco import read_coco
    from axons.data.cvat import cvat_document, cvat_image, read_cvat
    from axons.data.decoding import Decoder
    from axons.data.labeller import read_labeller
    from axons.data.labelme import read_labelme
    from axons.errors import ArchiveRefused, ImageRefused

from tests.data import test_hostile_images as images
from tests.data import test_hostile_labels as labels


class Readers:
    """Every reader of files from outside, and small valid files for it to begin with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._decoder = Decoder()
        cvat = "".join(
            cvat_document("t", [("axon", "#ff0000")], [cvat_image(0, "a.png", labels.PLANE, {0: "bg", 1: "axon"})])
        )
        pictures = list(images.seeds().values())
        readers: list[tuple[Callable[[bytes], object], Sequence[bytes]]] = [
            (partial(labels.try_to_read, read_coco), [_json(labels.COCO)]),
            (partial(labels.try_to_read, self._labelme), [_json(labels.LABELME)]),
            (partial(labels.try_to_read, read_labeller), [_json(labels.LABELLER)]),
            (partial(labels.try_to_read, read_cvat), [cvat.encode()]),
            (self._archive, [_zip(pictures[:2])]),
            (self._image, pictures),
            (self._mask, pictures),
        ]
        self._readers = [reader for reader, _ in readers]
        self.seeds = [bytes([number]) + seed for number, (_, seeds) in enumerate(readers) for seed in seeds]

    def read(self, data: bytes) -> None:
        """Let the reader that the first byte names read the others."""
        if data:
            self._readers[data[0] % len(self._readers)](data[1:])

    def _labelme(self, path: Path, classes: dict[str, int], *, name: str) -> Any:
        return read_labelme(path, classes, name=name, decode_mask=self._decoded)

    def _decoded(self, data: bytes) -> np.ndarray:
        return self._decoder.read_mask(self._file(data), name="mask").values

    def _archive(self, data: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder, suppress(ArchiveRefused):
            list(unpack_archive(self._file(data), Path(folder), name="a.zip"))

    def _image(self, data: bytes) -> None:
        with suppress(ImageRefused):
            self._decoder.normalise(self._file(data), self._folder / "working.tif", name="a")

    def _mask(self, data: bytes) -> None:
        with suppress(ImageRefused):
            self._decoded(data)

    def _file(self, data: bytes) -> Path:
        path = self._folder / "source"
        path.write_bytes(data)
        return path


def main(seconds: int) -> None:
    """Read mutated files for so long; ends the process."""
    with tempfile.TemporaryDirectory() as folder:
        readers = Readers(Path(folder))
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(readers.seeds):
            (corpus / str(number)).write_bytes(seed)
        limits = [f"-max_total_time={seconds}", "-max_len=65536", "-timeout=60", "-rss_limit_mb=4096"]
        atheris.Setup([sys.argv[0], *limits, str(corpus)], readers.read)
        atheris.Fuzz()


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


def _zip(files: Sequence[bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, data in enumerate(files):
            archive.writestr(f"{number}.png", data)
    return buffer.getvalue()


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 60)
