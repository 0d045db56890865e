"""Where the replicas of Ray Serve listen."""

from typing import Any

import ray
from ray.serve._private import replica

_MODULE: Any = replica
_ask_for_port = _MODULE.add_port_to_grpc_server


def listen_inside_cluster() -> None:
    """Let this replica listen on its node's address in the cluster only; to be called by its constructor.

    Ray Serve 2.60 opens each replica's port for calls from other replicas on every address of the machine, and
    unpickles whatever comes, without asking for Ray's token: whoever reaches it runs code.
    """
    _MODULE.add_port_to_grpc_server = _add_port


def _add_port(server: Any, address: str) -> int:
    host = str(ray.util.get_node_ip_address())
    port: int = _ask_for_port(server, address.replace("[::]", f"[{host}]" if ":" in host else host))
    return port
