"""`python -m openstack_provider.address RANGE`: this machine's address in the network where Ray talks."""

import ipaddress
import socket
import sys

import psutil


def address_in(network: str) -> str:
    """The first IPv4 address of this machine in this range, as 10.20.0.0/16.

    A head is on two networks, and Ray by itself takes the address that the world sees.

    Raises:
        ValueError: the machine has none.
    """
    wanted = ipaddress.IPv4Network(network)
    found = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET
    ]
    for address in found:
        if ipaddress.IPv4Address(address) in wanted:
            return address
    raise ValueError(f"this machine has no address in {network}, only {', '.join(found)}; correct it in cluster.yaml")


if __name__ == "__main__":
    print(address_in(sys.argv[1]))  # noqa: T201, the shell reads it
