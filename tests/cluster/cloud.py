"""A small OpenStack cloud on loopback, over HTTP: identity, compute, images and networks, with servers in memory."""

import base64
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
import yaml
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

TOKEN = "token-of-the-stand-in"
FLAVORS = {"GPU-FLAVOR": (13, 40_960), "HEAD-FLAVOR": (16, 16_384), "CPU-FLAVOR": (16, 32_768)}  # cores, MB
IMAGES = ["GPU-IMAGE", "HEAD-IMAGE"]
NETWORKS = {"axons-private": "10000000-0000-0000-0000-000000000001", "Ext-Net": "10000000-0000-0000-0000-000000000002"}


@dataclass
class Machine:
    """A server as the cloud keeps it."""

    id: str
    name: str
    flavor: str
    networks: list[str]
    metadata: dict[str, str]
    user_data: str
    status: str = "BUILD"
    task_state: str | None = "spawning"
    fault: str | None = None
    address: str | None = None
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    def cloud_init(self) -> dict[str, Any]:
        """What the machine does at its first boot."""
        return yaml.safe_load(base64.b64decode(self.user_data))


class Cloud:
    """The cloud's state, which a test reads and changes; `url` is where openstacksdk finds it."""

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self.quota = {"instances": 20, "cores": 200}
        self.refuse: list[int] = []  # status codes of the next answers of compute
        self.lose_answers = 0  # servers that are created, and answered with 503
        self.boots_at_once = False
        self.creations = 0
        self.deletions: list[str] = []
        self.url = ""
        self._addresses = 1

    def boot(self, *, fault: str | None = None) -> list[Machine]:
        """Every machine in BUILD comes up, or fails to."""
        booting = [machine for machine in self.machines.values() if machine.status == "BUILD"]
        for machine in booting:
            machine.task_state = None
            if fault:
                machine.status, machine.fault = "ERROR", fault
            else:
                self._addresses += 1
                machine.status, machine.address = "ACTIVE", f"127.77.0.{self._addresses}"
        return booting

    def grow_older(self, minutes: float) -> None:
        for machine in self.machines.values():
            machine.created -= timedelta(minutes=minutes)

    def reap(self) -> None:
        """What is being deleted is gone."""
        self.machines = {id: machine for id, machine in self.machines.items() if machine.task_state != "deleting"}

    def alive(self) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.task_state != "deleting"]

    def cores(self) -> int:
        return sum(FLAVORS[machine.flavor][0] for machine in self.machines.values())


@contextmanager
def running_cloud() -> Iterator[Cloud]:
    """Serve a fresh cloud until the block ends."""
    cloud = Cloud()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        cloud.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(_app(cloud), log_level="error", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, args=([listener],))
        listener.listen()
        thread.start()
        yield cloud
        server.should_exit = True
        thread.join()


@contextmanager
def ray_answers(machine: Machine, port: int) -> Iterator[None]:
    """Something listens where Ray of this machine would."""
    assert machine.address
    with socket.create_server((machine.address, port)):
        yield


def _app(cloud: Cloud) -> FastAPI:
    app = FastAPI()
    _add_identity(app, cloud)
    _add_catalogue(app, cloud)
    _add_servers(app, cloud)

    @app.middleware("http")
    async def admit(request: Request, call_next: Any) -> Any:
        path = request.url.path
        if not path.startswith("/identity") and request.headers.get("X-Auth-Token") != TOKEN:
            return JSONResponse({"error": {"code": 401, "message": "Unauthorized"}}, 401)
        if path.startswith("/compute/v2.1/servers") and cloud.refuse:
            status = cloud.refuse.pop(0)
            return JSONResponse({"fault": {"code": status, "message": "The service is unavailable."}}, status)
        return await call_next(request)

    return app


def _add_identity(app: FastAPI, cloud: Cloud) -> None:
    def version() -> dict[str, Any]:
        links = [{"rel": "self", "href": f"{cloud.url}/identity/v3/"}]
        return {"id": "v3.14", "status": "stable", "links": links, "media-types": []}

    @app.get("/identity/v3")
    @app.get("/identity/v3/")
    def versions() -> Any:
        return {"version": version()}

    @app.post("/identity/v3/auth/tokens")
    async def tokens(request: Request) -> Any:
        asked = await request.json()
        if asked["auth"]["identity"]["password"]["user"]["password"] != "secret-of-the-cloud":
            return JSONResponse({"error": {"code": 401, "message": "wrong password"}}, 401)
        endpoint = {"id": "e", "interface": "public", "region": "R1", "region_id": "R1"}
        services = [("compute", "/compute/v2.1"), ("image", "/image"), ("network", "/network")]
        catalog = [
            {"type": service, "name": service, "id": service, "endpoints": [{**endpoint, "url": cloud.url + path}]}
            for service, path in services
        ]
        until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        domain = {"id": "default", "name": "Default"}
        token = {
            "methods": ["password"],
            "user": {"id": "u", "name": "axons", "domain": domain},
            "project": {"id": "p", "name": "school", "domain": domain},
            "roles": [{"id": "r", "name": "member"}],
            "catalog": catalog,
            "expires_at": until,
            "issued_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
        }
        return JSONResponse({"token": token}, 201, headers={"X-Subject-Token": TOKEN})


def _add_catalogue(app: FastAPI, cloud: Cloud) -> None:
    """Versions, flavors, images and networks."""

    @app.get("/compute/v2.1")
    @app.get("/compute/v2.1/")
    def compute() -> Any:
        links = [{"rel": "self", "href": f"{cloud.url}/compute/v2.1/"}]
        return {"version": {"id": "v2.1", "status": "CURRENT", "version": "2.1", "min_version": "2.1", "links": links}}

    @app.get("/image")
    @app.get("/image/")
    def image() -> Any:
        links = [{"rel": "self", "href": f"{cloud.url}/image/v2/"}]
        return {"versions": [{"id": "v2.9", "status": "CURRENT", "links": links}]}

    @app.get("/network")
    @app.get("/network/")
    def network() -> Any:
        links = [{"rel": "self", "href": f"{cloud.url}/network/v2.0"}]
        return {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]}

    @app.get("/compute/v2.1/flavors/detail")
    @app.get("/compute/v2.1/flavors")
    def flavors() -> Any:
        return {
            "flavors": [
                {"id": f"id-{name}", "name": name, "vcpus": cores, "ram": ram, "disk": 100}
                for name, (cores, ram) in FLAVORS.items()
            ]
        }

    @app.get("/image/v2/images")
    def images(name: str | None = None) -> Any:
        return {"images": [{"id": f"id-{one}", "name": one} for one in IMAGES if name in (None, one)]}

    @app.get("/network/v2.0/networks")
    def networks(name: str | None = None) -> Any:
        return {"networks": [{"id": id, "name": one} for one, id in NETWORKS.items() if name in (None, one)]}

    @app.get("/compute/v2.1/limits")
    def limits() -> Any:
        used = {"totalInstancesUsed": len(cloud.machines), "totalCoresUsed": cloud.cores(), "totalRAMUsed": 0}
        most = {"maxTotalInstances": cloud.quota["instances"], "maxTotalCores": cloud.quota["cores"]}
        return {"limits": {"rate": [], "absolute": {**used, **most, "maxTotalRAMSize": -1}}}


def _add_servers(app: FastAPI, cloud: Cloud) -> None:
    @app.get("/compute/v2.1/servers/detail")
    def servers(name: str | None = None, marker: str | None = None) -> Any:
        if marker:
            return {"servers": []}
        return {"servers": [_told(machine) for machine in cloud.machines.values() if name in (None, machine.name)]}

    @app.get("/compute/v2.1/servers/{id}")
    def server(id: str) -> Any:
        return {"server": _told(cloud.machines[id])} if id in cloud.machines else _missing()

    @app.post("/compute/v2.1/servers")
    async def create(request: Request) -> Any:
        asked = (await request.json())["server"]
        flavor = asked["flavorRef"].removeprefix("id-")
        if over := _over_quota(cloud, flavor):
            return JSONResponse({"forbidden": {"code": 403, "message": over}}, 403)
        names = {id: name for name, id in NETWORKS.items()}
        machine = Machine(
            id=str(uuid.uuid4()),
            name=asked["name"],
            flavor=flavor,
            networks=[names[network["uuid"]] for network in asked["networks"]],
            metadata=asked["metadata"],
            user_data=asked.get("user_data", ""),
        )
        cloud.machines[machine.id] = machine
        cloud.creations += 1
        if cloud.boots_at_once:
            cloud.boot()
        if cloud.lose_answers:
            cloud.lose_answers -= 1
            return JSONResponse({"fault": {"code": 503, "message": "The answer is lost."}}, 503)
        return JSONResponse({"server": {"id": machine.id, "links": []}}, 202)

    @app.delete("/compute/v2.1/servers/{id}")
    def delete(id: str) -> Any:
        if id not in cloud.machines:
            return _missing()
        cloud.deletions.append(cloud.machines[id].name)
        cloud.machines[id].task_state = "deleting"
        return Response(status_code=204)

    @app.post("/compute/v2.1/servers/{id}/metadata")
    async def metadata(id: str, request: Request) -> Any:
        cloud.machines[id].metadata.update((await request.json())["metadata"])
        return {"metadata": cloud.machines[id].metadata}

    @app.post("/compute/v2.1/servers/{id}/action")
    def action(id: str) -> Any:
        return {"output": f"console of {cloud.machines[id].name}: no route to the head"}


def _over_quota(cloud: Cloud, flavor: str) -> str:
    """As nova says it."""
    cores = FLAVORS[flavor][0]
    if cloud.cores() + cores > cloud.quota["cores"]:
        used, most = cloud.cores(), cloud.quota["cores"]
        return f"Quota exceeded for cores: Requested {cores}, but already used {used} of {most} cores"
    if len(cloud.machines) + 1 > cloud.quota["instances"]:
        used, most = len(cloud.machines), cloud.quota["instances"]
        return f"Quota exceeded for instances: Requested 1, but already used {used} of {most} instances"
    return ""


def _missing() -> JSONResponse:
    return JSONResponse({"itemNotFound": {"code": 404, "message": "Instance could not be found."}}, 404)


def _told(machine: Machine) -> dict[str, Any]:
    addresses = {}
    if machine.address:
        for network in machine.networks:
            address = machine.address if network == "axons-private" else machine.address.replace("127.77", "203.0")
            addresses[network] = [{"addr": address, "version": 4, "OS-EXT-IPS:type": "fixed"}]
    told = {
        "id": machine.id,
        "name": machine.name,
        "status": machine.status,
        "OS-EXT-STS:task_state": machine.task_state,
        "metadata": machine.metadata,
        "addresses": addresses,
        "created": machine.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "flavor": {"id": f"id-{machine.flavor}"},
        "links": [],
    }
    if machine.fault:
        told["fault"] = {"code": 500, "message": machine.fault}
    return told
