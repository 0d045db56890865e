"""What cluster.yaml says of the cloud and of each type of node, checked once."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict


class ProviderConfig(BaseModel):
    """The section `provider` of cluster.yaml.

    Who we are to the cloud stands in the `OS_*` variables of the process, as openstacksdk reads them. Ray talks over
    `network`, a name; workers get the variables that `worker_env` names from the process that
    creates them, `NAME=OTHER` that of another name: workers have keys of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["external"]
    module: str
    disable_node_updaters: Literal[True]  # workers start Ray by cloud-init; nobody signs in to them
    foreground_node_launch: bool = False
    use_internal_ips: bool = False
    network: str
    container: str
    run_options: list[str] = []
    worker_env: list[str] = []
    head_port: int = 6379
    worker_port: int = 6380
    boot_timeout_minutes: float = 20
    api_timeout_s: float = 30

    @classmethod
    def from_ray(cls, section: dict[str, Any]) -> Self:
        """Without the private notes that Ray keeps in this section."""
        return cls.model_validate({key: value for key, value in section.items() if not key.startswith("_")})


class NodeConfig(BaseModel):
    """The section `node_config` of one type of node; all are names or ids as the cloud knows them.

    Without `networks` a node is only on the provider's network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flavor: str
    image: str
    networks: list[str] = []
    security_groups: list[str] = []
    key_name: str | None = None
    availability_zone: str | None = None
