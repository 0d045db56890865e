"""Sending files as a client does."""

import hashlib
from typing import Any

from starlette.testclient import TestClient


def begin(client: TestClient, data: bytes, *, name: str = "nerve.png", **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/uploads", json={"name": name, "num_bytes": len(data), **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def part_of(upload: dict[str, Any], data: bytes, number: int) -> bytes:
    return data[number * upload["part_bytes"] : (number + 1) * upload["part_bytes"]]


def send_part(client: TestClient, upload: dict[str, Any], data: bytes, number: int) -> Any:
    part = part_of(upload, data, number)
    headers = {"X-Part-SHA256": hashlib.sha256(part).hexdigest()}
    return client.put(f"/v1/uploads/{upload['id']}/parts/{number}", content=part, headers=headers)


def send(client: TestClient, data: bytes, *, name: str = "nerve.png", **fields: Any) -> str:
    """Upload a file; returns its id."""
    upload = begin(client, data, name=name, **fields)
    for number in upload["missing"]:
        assert send_part(client, upload, data, number).status_code == 200
    assert client.post(f"/v1/uploads/{upload['id']}:complete").status_code == 200
    return upload["id"]
