"""What is told of Ray while it is away."""

import pytest
import requests

from axons.app.jobs.ray_work import RayCluster
from axons.errors import ServerUnavailable


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (requests.ConnectionError("HTTPConnectionPool(host='127.0.0.1', port=8265)"), ""),
        (RuntimeError("status code 500: no agent"), r" \(status code 500: no agent\)"),
    ],
)
def test_a_person_reads_what_ray_answered_and_nothing_of_a_refused_connection(monkeypatch, error, told):
    def jobs():
        raise error

    cluster = RayCluster()
    monkeypatch.setattr(cluster, "_jobs", jobs)
    with pytest.raises(ServerUnavailable, match=f"^Ray's job server does not answer{told}; it is asked again$"):
        cluster.submission("a")
