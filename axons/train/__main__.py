"""`python -m axons.train RUN_URI`: train a run, as a Ray job or on this machine alone."""

import argparse
import logging
import os
import sys

import ray

from axons.errors import AxonsError
from axons.model.devices import num_cores
from axons.train.driver import train


def main() -> int:
    """Returns 0 if the run is done, 1 if not; 2 is argparse's for a wrong command line."""
    parser = argparse.ArgumentParser(prog="python -m axons.train", description="Train the run in a run folder.")
    parser.add_argument("run_uri", help="folder, s3:// or abfs:// address that holds run.json")
    parser.add_argument(
        "--address", help="Ray cluster; by default RAY_ADDRESS, as Ray sets it in a job, else a local one"
    )
    arguments = parser.parse_args()
    logging.getLogger("ray").setLevel(logging.WARNING)
    address = arguments.address or os.environ.get("RAY_ADDRESS") or "local"
    # A small machine gets more logical CPUs than cores: the operating system shares them.
    cpus = max(4, num_cores()) if address == "local" else None
    ray.init(address=address, num_cpus=cpus, include_dashboard=False if address == "local" else None)
    try:
        status = train(arguments.run_uri)
    except AxonsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"{status.state}{': ' + status.reason if status.reason else ''}\n")
    return 0 if status.state == "done" else 1


if __name__ == "__main__":
    sys.exit(main())
