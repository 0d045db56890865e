"""The applications of Ray Serve that people reach: the platform in one replica, and more that answer REST alone."""

import gc
from contextlib import ExitStack
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray._common.constants import HEAD_NODE_RESOURCE_NAME
from starlette.types import ASGIApp

from axons.app.preparing import check_shared
from axons.app.settings import Settings
from axons.errors import AxonsError
from axons.serve.listening import listen_inside_cluster

APPLICATION, API = "axons", "axons-api"

# With the default of 5, five open tabs that wait for events would block everybody.
_MAX_ONGOING = 1000
_NUM_CPUS = 0.1
_LOOK_EVERY_S = 2  # whether the replica lives; with Ray Serve's own 10 s the page would be away for as long
LOGS = {"encoding": "JSON"}  # of what Serve itself writes down: one line for each request


@serve.deployment(
    name=APPLICATION,
    num_replicas=1,
    max_ongoing_requests=_MAX_ONGOING,
    health_check_period_s=_LOOK_EVERY_S,
    logging_config=LOGS,
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


@serve.deployment(name=API, max_ongoing_requests=_MAX_ONGOING, health_check_period_s=_LOOK_EVERY_S, logging_config=LOGS)
@serve.ingress()
class Api:
    """The REST API alone, in as many processes as the settings say; the dispatcher and the screens are elsewhere."""

    def __init__(self, settings: Settings) -> None:
        from axons.app.logs import set_up_logs
        from axons.app.platform import Platform

        listen_inside_cluster()
        set_up_logs(settings.log_level)
        self._platform = Platform.open(settings)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        from axons.app.build import build_api
        from axons.app.gate import Gate

        return Gate(build_api(), self._platform)

    def __del__(self) -> None:
        if hasattr(self, "_platform"):
            self._platform.database.close()


class ConfigArguments(BaseModel):
    """What a Serve config says; all else the settings in the environment of the head say."""

    model_config = ConfigDict(extra="forbid")

    api_replicas: int = Field(0, ge=0)


def build_application(arguments: ConfigArguments) -> serve.Application:
    """For the `import_path` of a Serve config: the platform."""
    return _application(_settings(arguments), on_node=None, with_sample=False)


def build_api_application(arguments: ConfigArguments) -> serve.Application:
    """For the `import_path` of a Serve config: the REST API beside it."""
    return _api_application(_settings(arguments))


def deploy(settings: Settings, *, on_node: str | None, with_sample: bool) -> None:
    """Start the platform on the connected cluster and wait until it answers.

    Args:
        on_node: the address of the node that has the database's file; None is the head.
    """
    if settings.api_replicas:
        serve.run(_api_application(settings), name=API, route_prefix="/api")
    serve.run(_application(settings, on_node=on_node, with_sample=with_sample), name=APPLICATION, route_prefix="/")


def _application(settings: Settings, *, on_node: str | None, with_sample: bool) -> serve.Application:
    application: Any = Application
    return application.options(ray_actor_options=_on(on_node)).bind(settings, with_sample=with_sample)


def _api_application(settings: Settings) -> serve.Application:
    api: Any = Api
    return api.options(num_replicas=settings.api_replicas, ray_actor_options=_on(None)).bind(settings)


def _on(node: str | None) -> dict[str, Any]:
    """On the head, where Caddy is: machines that come and go neither keep the database's password nor stay for us."""
    return {"num_cpus": _NUM_CPUS, "resources": {f"node:{node}" if node else HEAD_NODE_RESOURCE_NAME: 0.001}}


def _settings(arguments: ConfigArguments) -> Settings:
    """Those of the environment, if several processes can share what they name.

    Raises:
        AxonsError: says which is missing.
    """
    settings = Settings().model_copy(update=arguments.model_dump())
    needed = {"database_url": settings.database_url, "storage_url": settings.storage_url, "secret": settings.secret}
    if missing := [f"AXONS_{name.upper()}" for name, value in needed.items() if value is None]:
        raise AxonsError(f"a Serve config needs {', '.join(missing)} in the environment of the head; set them")
    check_shared(settings)
    return settings


@ray.remote(num_cpus=0, max_calls=1)
def start_segmenter(settings: Settings, warm: list[str], has_own_ray: bool) -> None:
    """Start what predicts, from a process of its own: it imports torch, and then ends."""
    from axons.app.prediction_service import deploy_prediction_service

    deploy_prediction_service(settings, warm, has_own_ray=has_own_ray)
