"""Servers of an OpenStack project, read once: their state, tags and addresses, and what Ray's tags are as metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from ray.autoscaler.tags import TAG_RAY_CLUSTER_NAME

MAX_VALUE = 255  # characters of a key or a value of a server's metadata


def to_metadata(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as server metadata; characters that a key may not have are written as `:` and two hexadecimal digits.

    Raises:
        ValueError: a key or value is longer than the cloud takes.
    """
    metadata = {quote(key, safe="").replace("~", "%7E").replace("%", ":"): value for key, value in tags.items()}
    for key, value in metadata.items():
        if len(key) > MAX_VALUE or len(value) > MAX_VALUE:
            raise ValueError(
                f"tag {key[:40]!r} has a key of {len(key)} and a value of {len(value)} characters; "
                f"server metadata takes {MAX_VALUE}, choose shorter names"
            )
    return metadata


def to_tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """The tags that `to_metadata` has written."""
    return {unquote(key.replace(":", "%")): value for key, value in metadata.items()}


@dataclass(frozen=True)
class Server:
    """One server as the cloud told of it; an address is None as long as there is none."""

    id: str
    name: str
    status: str
    is_leaving: bool
    fault: str
    tags: dict[str, str]
    internal_ip: str | None
    external_ip: str | None
    created: datetime

    @property
    def cluster(self) -> str | None:
        """The cluster that has created this server."""
        return self.tags.get(TAG_RAY_CLUSTER_NAME)


def read_server(told: Any, *, network: str) -> Server:
    """A server of openstacksdk as ours; `network` is the name of the one Ray talks over."""
    internal, external = _addresses(told.addresses or {}, network)
    return Server(
        id=told.id,
        name=told.name,
        status=told.status,
        is_leaving=told.status in ("DELETED", "SOFT_DELETED") or told.task_state == "deleting",
        fault=(told.fault or {}).get("message", "the cloud gives no reason"),
        tags=to_tags(told.metadata or {}),
        internal_ip=internal,
        external_ip=external,
        created=datetime.fromisoformat(told.created_at).astimezone(UTC),
    )


def _addresses(addresses: Mapping[str, list[dict[str, Any]]], network: str) -> tuple[str | None, str | None]:
    """The IPv4 address on Ray's network, and the one for the world: floating, or on another network."""
    internal = external = None
    for name, on_network in addresses.items():
        for address in on_network:
            if address["version"] != 4:
                continue
            if name == network and address.get("OS-EXT-IPS:type", "fixed") == "fixed":
                internal = internal or address["addr"]
            else:
                external = external or address["addr"]
    return internal, external
