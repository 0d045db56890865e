"""Nodes of a Ray cluster as servers of an OpenStack cloud."""

import logging
import os
import socket
import threading
import time
import uuid
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import openstack
from keystoneauth1.exceptions import ConnectFailure
from openstack.exceptions import HttpException, NotFoundException, SDKException
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    NODE_KIND_WORKER,
    STATUS_UP_TO_DATE,
    TAG_RAY_CLUSTER_NAME,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from openstack_provider.config import NodeConfig, ProviderConfig
from openstack_provider.refusals import launch_failure
from openstack_provider.servers import Server, read_server, to_metadata
from openstack_provider.worker import cloud_init

logger = logging.getLogger(__name__)

PASSING = {408, 429, 500, 502, 503, 504}
PROBE_S = 0.5  # for one connection in the cloud's own network
LEAVING_S = 120.0  # a server that is still there so long after its deletion is deleted again
PAUSE_S = 60.0  # between a boot that failed and the next of that type

_Result = TypeVar("_Result")


class OpenStackNodeProvider(NodeProvider):
    """Ray's view of the servers that carry this cluster's name in their metadata; no other server is touched.

    A worker starts Ray by cloud-init, and counts as up once Ray answers on its port. One that fails to boot, or whose
    Ray does not answer in time, is deleted; the reason stands in the log and in the next refusal that Ray shows.
    """

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._config = ProviderConfig.from_ray(provider_config)
        self._cloud = openstack.connect(api_timeout=self._config.api_timeout_s)
        self._lock = threading.RLock()
        self._servers: dict[str, Server] = {}
        self._left: dict[str, float] = {}  # when a server's deletion was asked for
        self._failures: dict[str, tuple[float, str]] = {}  # of a node type: when, and why

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """Ask the cloud anew; what the other methods answer is as of this call.

        Servers in state ERROR, and workers on which Ray does not answer in time, are deleted here.
        """
        for server in self._read_all():
            self._look_after(server)
        with self._lock:
            return [server.id for server in self._servers.values() if tag_filters.items() <= server.tags.items()]

    def is_running(self, node_id: str) -> bool:
        server = self._find(node_id)
        return server is not None and server.status == "ACTIVE"

    def is_terminated(self, node_id: str) -> bool:
        return self._find(node_id) is None

    def node_tags(self, node_id: str) -> dict[str, str]:
        return dict(self._get(node_id).tags)

    def internal_ip(self, node_id: str) -> str | None:  # type: ignore[override]  # Ray itself counts on None
        """None until the cloud has given an address."""
        return self._get(node_id).internal_ip

    def external_ip(self, node_id: str) -> str | None:  # type: ignore[override]  # as above
        """A floating address or one on another network; None if the node has neither."""
        return self._get(node_id).external_ip

    def get_node_id(self, ip_address: str, use_internal_ip: bool = False) -> str:
        """Always from the cloud: clouds give an address again as soon as it is free."""
        for server in self._read_all():
            if ip_address == (server.internal_ip if use_internal_ip else server.external_ip):
                return server.id
        raise ValueError(f"no server of cluster {self.cluster_name!r} has address {ip_address}; see `ray status`")

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        if self._confirm(node_id) is None:
            raise self._gone(node_id)
        _persistently(lambda: self._cloud.compute.set_server_metadata(node_id, **to_metadata(tags)))
        self._confirm(node_id)

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """As `ray up` creates the head; Ray finds out the resources by itself."""
        return self.create_node_with_resources_and_labels(node_config, tags, count, {}, {})

    def create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> dict[str, Any]:
        """Ask the cloud for `count` servers; they boot on their own.

        Raises:
            NodeLaunchException: the cloud refuses one; those asked for before it stay.
        """
        node_type = tags.get(TAG_RAY_USER_NODE_TYPE, "node")
        self._wait_after_failure(node_type)
        config = NodeConfig.model_validate(node_config)
        created: dict[str, Any] = {}
        try:
            request = self._request(config, tags)
            if tags.get(TAG_RAY_NODE_KIND) == NODE_KIND_WORKER:
                request["user_data"] = b64encode(self._cloud_init(resources, labels).encode()).decode()
            launch = uuid.uuid4().hex[:8]
            for number in range(count):
                name = f"{self.cluster_name}-{node_type}-{launch}-{number}".replace(".", "-")
                created[self._create(name, request)] = {"name": name}
        except (SDKException, ConnectFailure) as error:
            raise launch_failure(
                error, cloud=self._cloud, flavor=config.flavor, num_created=len(created), count=count
            ) from error
        return created

    def terminate_node(self, node_id: str) -> None:
        """Delete the server.

        Raises:
            ValueError: it is no server of this cluster.
        """
        if self._confirm(node_id) is not None:
            _persistently(lambda: self._cloud.compute.delete_server(node_id, ignore_missing=True))
        with self._lock:
            self._left[node_id] = time.monotonic()
            self._servers.pop(node_id, None)

    def terminate_nodes(self, node_ids: list[str]) -> None:
        """Delete all that can be; one that the cloud does not delete is listed again, and Ray comes back to it."""
        for node_id in node_ids:
            try:
                self.terminate_node(node_id)
            except (SDKException, ConnectFailure) as error:
                logger.error("server %s was not deleted and still costs: %s; it is tried again", node_id, error)

    # --- what the cloud tells

    def _read_all(self) -> list[Server]:
        """This cluster's servers as they are now; from here on the other methods answer from them."""
        told = _persistently(lambda: list(self._cloud.compute.servers()))
        servers = [read_server(server, network=self._config.network) for server in told]
        alive = [server for server in servers if self._is_ours(server) and not self._is_leaving(server)]
        with self._lock:
            self._servers = {server.id: server for server in alive}
        return alive

    def _is_ours(self, server: Server) -> bool:
        return server.cluster == self.cluster_name

    def _is_leaving(self, server: Server) -> bool:
        """Whether the server is on its way out; the cloud lists it for some seconds more."""
        asked = self._left.get(server.id)
        return server.is_leaving or (asked is not None and time.monotonic() - asked < LEAVING_S)

    def _find(self, node_id: str) -> Server | None:
        with self._lock:
            known = self._servers.get(node_id)
        return known or self._confirm(node_id)

    def _get(self, node_id: str) -> Server:
        server = self._find(node_id)
        if server is None:
            raise self._gone(node_id)
        return server

    def _gone(self, node_id: str) -> ValueError:
        return ValueError(f"server {node_id} of cluster {self.cluster_name!r} is gone; see `ray status`")

    def _confirm(self, node_id: str) -> Server | None:
        """The server as it is now, from the cloud; None where it is gone or going.

        Raises:
            ValueError: it is somebody else's.
        """
        try:
            told = _persistently(lambda: self._cloud.compute.get_server(node_id))
        except NotFoundException:
            return None
        server = read_server(told, network=self._config.network)
        if not self._is_ours(server):
            raise ValueError(
                f"server {server.name!r} ({node_id}) does not belong to cluster {self.cluster_name!r}; it is left alone"
            )
        if self._is_leaving(server):
            return None
        with self._lock:
            self._servers[node_id] = server
        return server

    # --- boots

    def _look_after(self, server: Server) -> None:
        """Delete a server that failed; tell Ray of a worker on which Ray has come up."""
        if server.status == "ERROR":
            self._give_up(server, f"the cloud could not boot it: {server.fault}")
            return
        is_worker = server.tags.get(TAG_RAY_NODE_KIND) == NODE_KIND_WORKER
        if not is_worker or server.tags.get(TAG_RAY_NODE_STATUS) == STATUS_UP_TO_DATE:
            return
        if server.status == "ACTIVE" and _answers(server.internal_ip, self._config.worker_port):
            self.set_node_tags(server.id, {TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE})
        elif datetime.now(UTC) - server.created > timedelta(minutes=self._config.boot_timeout_minutes):
            self._give_up(
                server,
                f"Ray does not answer on it after {self._config.boot_timeout_minutes:g} minutes ({server.status}); "
                f"the end of its console: {self._console(server)}",
            )

    def _give_up(self, server: Server, reason: str) -> None:
        node_type = server.tags.get(TAG_RAY_USER_NODE_TYPE, "node")
        message = f"server {server.name!r} of type {node_type} is deleted, {reason}"
        logger.error(message)
        with self._lock:
            self._failures[node_type] = (time.monotonic(), message)
        self.terminate_nodes([server.id])

    def _wait_after_failure(self, node_type: str) -> None:
        """Refuse a node right after one of its type has failed: it would fail again, and here Ray shows the reason."""
        with self._lock:
            since, message = self._failures.get(node_type, (-PAUSE_S, ""))
        if time.monotonic() - since < PAUSE_S:
            raise NodeLaunchException("BootFailed", f"{message}; the next is tried in a minute", None)

    def _console(self, server: Server) -> str:
        try:
            return self._cloud.compute.get_server_console_output(server.id, length=20)["output"].strip()
        except (SDKException, ConnectFailure):
            return "(the cloud does not show it)"

    # --- creation

    def _request(self, config: NodeConfig, tags: dict[str, str]) -> dict[str, Any]:
        """What the cloud is asked for, but for the name; names become ids here, so that a wrong one is told."""
        cloud = self._cloud
        networks = config.networks or [self._config.network]
        request: dict[str, Any] = {
            "flavor_id": _persistently(lambda: cloud.compute.find_flavor(config.flavor, ignore_missing=False)).id,
            "image_id": _persistently(lambda: cloud.image.find_image(config.image, ignore_missing=False)).id,
            "networks": [{"uuid": self._network_id(name)} for name in networks],
            "metadata": to_metadata({**tags, TAG_RAY_CLUSTER_NAME: self.cluster_name}),
        }
        if config.security_groups:
            request["security_groups"] = [{"name": name} for name in config.security_groups]
        if config.key_name:
            request["key_name"] = config.key_name
        if config.availability_zone:
            request["availability_zone"] = config.availability_zone
        return request

    def _network_id(self, name: str) -> str:
        return _persistently(lambda: self._cloud.network.find_network(name, ignore_missing=False)).id

    def _create(self, name: str, request: dict[str, Any]) -> str:
        """Exactly one server of this name, also where the cloud creates it and the answer is lost; returns its id."""

        def create_or_find() -> str:
            # A name is made for one server; it is there already only if an earlier try got through.
            if tries:
                for server in self._cloud.compute.servers(name=name):
                    if server.name == name:
                        return str(server.id)
            tries.append(name)
            return str(self._cloud.compute.create_server(name=name, **request).id)

        tries: list[str] = []
        return _persistently(create_or_find)

    def _cloud_init(self, resources: dict[str, float], labels: dict[str, str]) -> str:
        heads = [server for server in self._read_all() if server.tags.get(TAG_RAY_NODE_KIND) == NODE_KIND_HEAD]
        head_ip = heads[0].internal_ip if heads else None
        if head_ip is None:
            raise NodeLaunchException(
                "NoHead", f"cluster {self.cluster_name!r} has no head with an address; run `ray up` first", None
            )
        # Each is NAME, or NAME=OTHER where the head has it under another name.
        sources = {name: other or name for name, _, other in (each.partition("=") for each in self._config.worker_env)}
        missing = [other for other in sources.values() if other not in os.environ]
        if missing:
            raise NodeLaunchException(
                "EnvMissing", f"worker_env names {', '.join(missing)}, not set on the head; add to axons.env", None
            )
        return cloud_init(
            head=f"{head_ip}:{self._config.head_port}",
            port=self._config.worker_port,
            container=self._config.container,
            run_options=self._config.run_options,
            resources=resources,
            labels=labels,
            env={name: os.environ[other] for name, other in sources.items()},
        )


def _persistently(call: Callable[[], _Result]) -> _Result:
    """Repeat what a passing fault has broken, five times in about half a minute."""
    for attempt in Retrying(
        retry=retry_if_exception(_passes),
        stop=stop_after_attempt(5),
        wait=wait_exponential_jitter(initial=1, max=15),
        reraise=True,
    ):
        with attempt:
            return call()
    raise AssertionError("tenacity raises the last fault")


def _passes(error: BaseException) -> bool:
    return isinstance(error, ConnectFailure) or (isinstance(error, HttpException) and error.status_code in PASSING)


def _answers(ip: str | None, port: int) -> bool:
    if ip is None:
        return False
    try:
        with socket.create_connection((ip, port), timeout=PROBE_S):
            return True
    except OSError:
        return False
