"""Azurite, Microsoft's own server of the Blob API, as a process of its own."""

import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from axons.data.storage import fsspec_files
from tests.conftest import free_port, wait_for_port

ACCOUNT = "devstoreaccount1"  # the one that Azurite knows, with its published key
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def _program() -> str:
    own = Path(sys.prefix, "azurite", "node_modules", ".bin", "azurite-blob")
    program = str(own) if own.exists() else shutil.which("azurite-blob")
    if program is None:
        pytest.skip("Azurite is not here: `make azurite` installs it, with npm of Node 20 or newer")
    return program


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Blob service on loopback; yields its connection string."""
    program, port = _program(), free_port()
    place = ("--blobPort", str(port), "--location", str(tmp_path_factory.mktemp("azurite")))
    options = ("--silent", "--disableTelemetry", "--skipApiVersionCheck")
    server = subprocess.Popen([program, *place, *options], stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        yield f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={_KEY};BlobEndpoint={endpoint};"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def azure_uri(azurite: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A place in a fresh container; this process has the keys of the account."""
    from azure.storage.blob import BlobServiceClient

    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite)
    container = f"axons-{uuid.uuid4()}"
    with BlobServiceClient.from_connection_string(azurite) as service:
        service.create_container(container)
    fsspec_files.cache_clear()
    yield f"abfs://{container}@{ACCOUNT}.dfs.core.windows.net/some/prefix"
    fsspec_files.cache_clear()
