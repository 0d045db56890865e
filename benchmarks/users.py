"""Users who press buttons, as the screens ask for them: real requests without a browser."""

import asyncio
import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from benchmarks.platform_up import percentile

_EVERY_S = 1.0


class Users:
    """Each on a project of their own presses a button each second; `num_broken` answers were errors or none.

    Args:
        tokens, projects: one of each for every user.
    """

    def __init__(self, url: str, tokens: Sequence[str], projects: Sequence[str]) -> None:
        self.num_broken = 0
        self._url, self._people = url, list(zip(tokens, projects, strict=True))
        self._stop = threading.Event()
        self._found: dict[str, list[float]] = defaultdict(list)

    @property
    def seconds(self) -> list[float]:
        """Of every button together."""
        return [each for found in self._found.values() for each in found]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """They press until the end of the block."""
        thread = threading.Thread(target=lambda: asyncio.run(self._work()))
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def told(self) -> str:
        """How long each button took."""
        took = "; ".join(
            f"{name} {percentile(found, 0.5):.0f} and {percentile(found, 0.95):.0f} ms"
            for name, found in sorted(self._found.items())
        )
        return f"{len(self._people)} users, {len(self.seconds)} presses; 50 and 95 of 100: {took}"

    async def _work(self) -> None:
        await asyncio.gather(*(self._press(*person, seed) for seed, person in enumerate(self._people)))

    async def _press(self, token: str, project: str, seed: int) -> None:
        rng = random.Random(seed)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=f"{self._url}/api/v1/", headers=headers, timeout=60) as http:
            images = (await http.get(f"projects/{project}/images")).raise_for_status().json()["items"]
            await asyncio.sleep(rng.random() * _EVERY_S)  # a class does not act in step
            while not self._stop.is_set():
                image = rng.choice(images)["id"]
                buttons: dict[str, tuple[str, str, Any]] = {
                    "exclude": ("PATCH", f"images/{image}", {"is_excluded": rng.random() < 0.5}),
                    "find": ("GET", f"projects/{project}/images?search=1&limit=100", None),
                    "next tile": ("GET", f"projects/{project}/queue/next", None),
                    "filter tiles": ("GET", f"projects/{project}/tiles?status=unlabelled&limit=100", None),
                    "plan": ("POST", f"projects/{project}/training-sets:preview", {"fractions": [0.5, 0.25, 0.25]}),
                    "rename": ("PATCH", f"projects/{project}", {"description": uuid.uuid4().hex}),
                    "checks": ("GET", f"projects/{project}/checks", None),
                }
                name = rng.choice(list(buttons))
                await self._ask(http, name, *buttons[name])
                await asyncio.sleep(_EVERY_S * (0.5 + rng.random()))

    async def _ask(self, http: httpx.AsyncClient, name: str, method: str, path: str, form: Any) -> None:
        began = time.perf_counter()
        try:
            answer = await http.request(method, path, json=form)
        except httpx.TransportError:
            self.num_broken += 1
            return
        self._found[name].append(time.perf_counter() - began)
        self.num_broken += answer.is_error
