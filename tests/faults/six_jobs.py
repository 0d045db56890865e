"""Six jobs that a fault comes upon: three trainings and three imports, and what must have become of them (R18)."""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axons.client import FINAL_STATES, Client
from tests.faults.annotators import draw_files
from tests.faults.on_platform import NUM_IMAGES, add_training_set

EACH = 3  # trainings, and as many imports
# A student may have one training at a time; the administrator of this class has several.
SETTINGS = {"AXONS_MAX_ACTIVE_TRAININGS": str(EACH)}
_CONFIG = {"epochs": 2, "crop": 32, "batch": 4, "encoder": "mobilenet_v2", "device": "cpu", "patience": 0}
_OVER_S = 300


@dataclass(frozen=True)
class SixJobs:
    """They are under way, or over.

    Attributes:
        runs: by the id of the job that trains it; `projects` by that of the job that imports into it.
    """

    client: Client
    runs: dict[str, str]
    projects: dict[str, str]

    @classmethod
    def start(cls, client: Client, folder: Path) -> "SixJobs":
        training_set = add_training_set(client, folder / "disks")
        runs, projects = {}, {}
        for seed in range(EACH):
            run = client.start_run(training_set, **_CONFIG, seed=seed)
            runs[run["job_id"]] = run["id"]
            target = client.create_project(f"Import {seed}", ["background", "axon"])["id"]
            files = draw_files(folder / str(seed), [f"{number}.png" for number in range(NUM_IMAGES)], seed=seed)
            projects[client.import_images(target, files)["id"]] = target
        return cls(client, runs, projects)

    def now(self) -> list[dict[str, Any]]:
        return [self.client.job(job_id) for job_id in (*self.runs, *self.projects)]

    def is_any_running(self) -> bool:
        return any(job["state"] == "running" for job in self.now())

    def wait_for_all(self) -> float:
        """Seconds until each has ended, at most five minutes (R18)."""
        began = time.monotonic()
        while any(job["state"] not in FINAL_STATES for job in self.now()):
            assert time.monotonic() - began < _OVER_S, self.now()
            time.sleep(1)
        return time.monotonic() - began

    def check(self) -> None:
        """Each is done, and nothing of it twice."""
        assert {job["state"] for job in self.now()} == {"done"}, [job["reason"] for job in self.now()]
        trained = Counter(model["run_id"] for model in self.client.pages("models"))
        assert trained == dict.fromkeys(self.runs.values(), 1)
        images = [len(list(self.client.pages(f"projects/{target}/images"))) for target in self.projects.values()]
        assert images == [NUM_IMAGES] * EACH

    def num_begun_again(self) -> int:
        return sum(job["attempt"] > 1 for job in self.now())
