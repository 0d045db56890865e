"""Twenty PNG of 512² predicted over HTTP for 4 clients at once, through `/v2` with sign-in.

Peer: LitServe with the same model file and the same `segment` (litserve_peer.py), without
sign-in or checks of the file.
Target: 0.9 × its images/s, 95 of 100 answers within twice the median, no errors, the same masks.
"""

import io
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import local

import httpx
import numpy as np
from PIL import Image

from axons.client import Client
from benchmarks.drawn import draw_field, trained_model
from benchmarks.measuring import Result, at_most, rate
from benchmarks.platform_up import percentile, running, write_pictures
from tests.app.installation import first_sign_in
from tests.conftest import free_port
from tests.faults.on_platform import share_model

_CLIENTS = 4
_IMAGES = 20


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    model_uri = trained_model(scratch, steps=10 if is_small else 40)
    fields = [draw_field(512, seed=1_000 + i).image for i in range(_IMAGES)]
    pictures = [file.read_bytes() for file in write_pictures(scratch / "images", fields)]
    rounds = 1 if is_small else 5
    with running() as up, _litserve(model_uri) as peer_url:
        with up.client() as client:
            name, people = share_model(client, Path(model_uri), "fields"), _add_people(client)
        headers = [{"Authorization": f"Bearer {token}", "Accept": "image/png"} for token in people]
        ours = _Clients(f"{up.url}/v2/models/{name}/predict/", headers)
        peer = _Clients(f"{peer_url}/predict", [{}] * _CLIENTS)
        for found in (ours, peer):
            found.run(pictures)  # loads the model
            found.seconds.clear()
            found.rates.clear()
        for _ in range(rounds):
            ours.run(pictures)
            peer.run(pictures)
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours.rates, peer.rates, strict=True))
    half, slow = (percentile(ours.seconds, share) for share in (0.5, 0.95))
    pairs = zip(ours.masks, peer.masks, strict=True)
    different = sum(int((mine != theirs).sum()) for mine, theirs in pairs if mine is not None and theirs is not None)
    return Result(
        figures=[
            rate(
                "images/s against LitServe",
                statistics.median(ours.rates),
                statistics.median(peer.rates),
                unit="/s",
                at_least=0.9,
                ratio=ratio,
            ),
            at_most("95 of 100 answers against the median", slow / half, 2, unit="×"),
            at_most("errors", len(ours.errors), 0, unit=""),
            at_most("pixels that differ from LitServe's", different, 0, unit="px"),
        ],
        notes=[
            f"medians of {rounds} rounds; 50 and 95 of 100 of our answers within {half:.0f} and {slow:.0f} ms, "
            f"LitServe's {percentile(peer.seconds, 0.5):.0f} and {percentile(peer.seconds, 0.95):.0f} ms",
            *sorted({f"error: {text}" for text in ours.errors + peer.errors}),
        ],
    )


class _Clients:
    """Sends all pictures from several clients at once, and keeps the answers."""

    def __init__(self, url: str, headers: list[dict[str, str]]) -> None:
        self.rates: list[float] = []
        self.seconds: list[float] = []
        self.masks: list[np.ndarray | None] = []
        self.errors: list[str] = []
        self._url, self._headers = url, iter(headers)
        self._of_thread = local()
        self._threads = ThreadPoolExecutor(_CLIENTS)

    def run(self, pictures: list[bytes]) -> None:
        """One round of all pictures."""
        began = time.perf_counter()
        answers = list(self._threads.map(self._ask, pictures))
        self.rates.append(len(pictures) / (time.perf_counter() - began))
        self.masks = [None if answer is None else np.asarray(Image.open(io.BytesIO(answer))) for answer in answers]

    def _ask(self, picture: bytes) -> bytes | None:
        if not hasattr(self._of_thread, "http"):
            self._of_thread.http = httpx.Client(headers=next(self._headers), timeout=120)
        began = time.perf_counter()
        answer = self._of_thread.http.post(self._url, files={"data": ("field.png", picture, "image/png")})
        self.seconds.append(time.perf_counter() - began)
        if answer.is_error:
            self.errors.append(f"{answer.status_code} {answer.text[:200]}")
            return None
        return bytes(answer.content)


@contextmanager
def _litserve(model_uri: str) -> Iterator[str]:
    """The peer as a process of its own; yields its address."""
    url = f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.litserve_peer", model_uri, url.rpartition(":")[2]])
    try:
        while not _is_ready(url):
            assert process.poll() is None, "LitServe has ended"
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def _add_people(client: Client) -> list[str]:
    """Accounts for the clients, one each, for nobody may fill the queue alone; returns their tokens."""
    accounts = client.create("users/import", {"users": [{"name": f"client-{n}"} for n in range(_CLIENTS)]})
    return [first_sign_in(client.url, account) for account in accounts]
