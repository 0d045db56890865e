"""The `axons` application of Ray Serve: one replica that owns the database, answers REST and starts jobs."""

import gc
from contextlib import ExitStack
from typing import Any

import ray
from ray import serve
from starlette.types import ASGIApp

from axons.app.settings import Settings
from axons.serve.listening import listen_inside_cluster

APPLICATION = "axons"

# With the default of 5, five open tabs that wait for events would block everybody.
_MAX_ONGOING = 1000
_NUM_CPUS = 0.1
_LOOK_EVERY_S = 2  # whether the replica lives; with Ray Serve's own 10 s the page would be away for as long


@serve.deployment(
    name=APPLICATION, num_replicas=1, max_ongoing_requests=_MAX_ONGOING, health_check_period_s=_LOOK_EVERY_S
)
@serve.ingress()
class Application:
    """The platform in one process. Its parts are imported here, so that whoever deploys it needs none of them.

    Args:
        settings: of the installation; a replica does not read the environment of its node.
        with_sample: install the sample project and train its model, if that has not been done.
    """

    def __init__(self, settings: Settings, *, with_sample: bool = False) -> None:
        from axons.app.database import Database, sqlite_taken
        from axons.app.logs import set_up_logs
        from axons.app.platform import Platform

        listen_inside_cluster()
        set_up_logs(settings.log_level)
        self._opened = ExitStack()
        database = Database(settings.database)
        if database.is_sqlite:
            self._opened.enter_context(sqlite_taken(settings.data.absolute() / "axons.db"))
        self._platform = Platform.open(settings)
        self._opened.callback(self._platform.database.close)
        self._with_sample = with_sample

    def __serve_build_asgi_app__(self) -> ASGIApp:
        from axons.app.build import build_app
        from axons.app.jobs.dispatcher import Dispatcher
        from axons.app.jobs.ray_work import RayCluster
        from axons.app.sample import start_sample

        app = build_app(self._platform)
        dispatcher = Dispatcher(self._platform, RayCluster())
        dispatcher.start()
        self._opened.callback(dispatcher.stop)
        if self._with_sample:
            start_sample(self._platform)
        # Several hundred MB of code and tables that stay: each look through them would hold up every answer.
        gc.collect()
        gc.freeze()
        return app

    def __del__(self) -> None:
        if hasattr(self, "_opened"):
            self._opened.close()


def deploy(settings: Settings, *, on_node: str | None, with_sample: bool) -> None:
    """Start the application on the connected cluster and wait until it answers.

    Args:
        on_node: the address of the node that has the database's file; None lets Ray choose.
    """
    resources = {f"node:{on_node}": 0.001} if on_node else {}
    application: Any = Application
    serve.run(
        application.options(ray_actor_options={"num_cpus": _NUM_CPUS, "resources": resources}).bind(
            settings, with_sample=with_sample
        ),
        name=APPLICATION,
        route_prefix="/",
    )


@ray.remote(num_cpus=0, max_calls=1)
def start_segmenter(gpu_share: float, warm: list[str]) -> None:
    """Start the application that predicts, from a process of its own: it imports torch, and then ends."""
    from axons.app.prediction_service import deploy_prediction_service

    deploy_prediction_service(gpu_share, warm)
