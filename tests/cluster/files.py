"""Where the files of the cluster are."""

from pathlib import Path

CLUSTER = Path(__file__).parents[2] / "cluster"
