"""The keys of workers: enough for their work, and for nothing else; on a real S3 server that enforces the policy."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx
import pytest
import s3fs
import yaml

from axons.data.storage import fsspec_files, open_storage
from axons.errors import AxonsError
from axons.train.config import TrainConfig
from axons.train.run import REQUEST, RunFolder, RunRequest
from tests.cluster.files import CLUSTER
from tests.conftest import free_port, wait_for_port
from tests.data.azurite import azure_uri, azurite  # noqa: F401 (fixtures)
from tests.drawing import freeze_disks

HEADS_OWN = ("AXONS_DATABASE_URL", "AXONS_SECRET", "POSTGRES_PASSWORD", "OS_APPLICATION_CREDENTIAL_SECRET")


@dataclass(frozen=True)
class Guarded:
    """An S3 server that asks who comes; the environment of a worker there, and the storage that is its own."""

    environment: dict[str, str]
    uri: str = "s3://axons/main"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(port)
        yield Guarded(environment=_set_up(f"http://127.0.0.1:{port}"))
    finally:
        server.terminate()
        server.wait()


def _set_up(url: str) -> dict[str, str]:
    """Two buckets, objects that are none of a worker's business, and a worker with the policy of the file."""
    keys = {"aws_access_key_id": "root", "aws_secret_access_key": "root", "region_name": "us-east-1"}
    s3, iam = (boto3.client(name, endpoint_url=url, **keys) for name in ("s3", "iam"))
    for bucket in ("axons", "foreign"):
        s3.create_bucket(Bucket=bucket)
    for bucket, key in (("axons", "other/projects/secret"), ("axons", "main/backups/secret"), ("foreign", "secret")):
        s3.put_object(Bucket=bucket, Key=key, Body=b"secret")
    policy = (CLUSTER / "worker-policy.json").read_text().replace("BUCKET", "axons").replace("PREFIX", "main")
    # For a question about the bucket itself S3 wants the first, this server the second.
    policy = policy.replace('"s3:ListBucket"', '"s3:ListBucket", "s3:HeadBucket"')
    iam.create_user(UserName="worker")
    iam.put_user_policy(UserName="worker", PolicyName="worker", PolicyDocument=policy)
    # This server checks a request that deletes objects at the bucket; S3 itself checks it at each object.
    whole = {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::axons"}
    kept = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::axons/other/*"}
    s3.put_bucket_policy(Bucket="axons", Policy=json.dumps({"Version": "2012-10-17", "Statement": [kept]}))
    more = json.dumps({"Version": "2012-10-17", "Statement": [whole]})
    iam.put_user_policy(UserName="worker", PolicyName="deletes", PolicyDocument=more)
    made = iam.create_access_key(UserName="worker")["AccessKey"]
    httpx.post(f"{url}/moto-api/reset-auth", content=b"0").raise_for_status()  # from now on everybody is asked
    return {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
    }


@pytest.fixture
def as_worker(guarded, monkeypatch) -> Iterator[Guarded]:
    """This process has the keys of a worker; connections of other tests are forgotten, before and after."""
    _forget_connections()
    for name, value in guarded.environment.items():
        monkeypatch.setenv(name, value)
    yield guarded
    _forget_connections()


def _forget_connections() -> None:
    fsspec_files.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("area", ["projects", "training-sets", "models", "tmp"])
def test_a_worker_writes_reads_lists_and_deletes_in_the_four_areas(as_worker, area, tmp_path):
    storage = open_storage(as_worker.uri)
    (tmp_path / "file").write_bytes(b"pixels")
    assert storage.write(f"{area}/a/1", tmp_path / "file")
    assert not storage.write(f"{area}/a/1", b"again")
    storage.replace(f"{area}/a/2", b"2")
    assert storage.read(f"{area}/a/1") == storage.local_path(f"{area}/a/1").read_bytes() == b"pixels"
    assert [stored.key for stored in storage.list_objects(f"{area}/a")] == [f"{area}/a/1", f"{area}/a/2"]
    storage.delete_prefix(f"{area}/a")
    assert not storage.exists(f"{area}/a/1")


def test_a_worker_writes_in_parts(as_worker):
    files, root = fsspec_files(as_worker.uri)
    with files.open(f"{root}/models/run/attempts/1/ray/weights", "wb", block_size=5 << 20) as target:
        [target.write(b"w" * (3 << 20)) for _ in range(4)]
    assert open_storage(as_worker.uri).list_objects("models/run")[0].size == 12 << 20


@pytest.mark.parametrize(
    ("uri", "key"),
    [("s3://axons/other", "projects/secret"), ("s3://axons/main", "backups/secret"), ("s3://foreign", "secret")],
)
def test_what_is_not_the_platforms_is_refused_plainly(as_worker, uri, key):
    storage = open_storage(uri)
    for deed in (storage.read, lambda name: storage.replace(name, b"mine"), storage.local_path):
        with pytest.raises(AxonsError, match=rf"storage {uri} refused .*; check its address"):
            deed(key)


def test_a_deletion_that_is_refused_is_told(as_worker):
    with pytest.raises(AxonsError, match="refused .*AccessDenied at the deletion of other/projects/secret, of 1"):
        open_storage("s3://axons/other").delete_prefix("projects")


def test_only_the_head_looks_for_what_is_half_written(as_worker):
    with pytest.raises(AxonsError, match="refused"):
        open_storage(as_worker.uri).delete_unfinished(older_than_s=0, now=0)


def train(uri: str, keys: dict[str, str], folder: Path) -> None:
    """A whole training at an address, in a process that knows these keys and no others; it must come to its end."""
    set_uri, manifest = freeze_disks(folder, target_uri=f"{uri}/training-sets/disks")
    run = RunFolder(f"{uri}/models/run-1")
    config = TrainConfig(epochs=1, crop=32, batch=2, device="cpu")
    request = RunRequest(run_id="run-1", training_set=set_uri, training_set_sha256=manifest.sha256(), config=config)
    run.storage.write(REQUEST, request.packed())
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AZURE_", "RAY_"))}
    told = subprocess.run(
        [sys.executable, "-m", "axons.train", run.uri],
        env={**plain, **keys, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.status().state == "done", (run.status().reason, told.stderr[-2000:])
    assert run.storage.exists("model/model.safetensors")


@pytest.mark.slow
def test_a_training_with_the_keys_of_a_worker_comes_to_its_end(as_worker, tmp_path):
    train(as_worker.uri, as_worker.environment, tmp_path)


@pytest.mark.long
def test_a_training_on_azure_comes_to_its_end(azure_uri, azurite, tmp_path):  # noqa: F811 (the fixtures)
    train(azure_uri, {"AZURE_STORAGE_CONNECTION_STRING": azurite}, tmp_path)


def test_the_policy_names_no_more_than_the_four_areas():
    listing, work = json.loads((CLUSTER / "worker-policy.json").read_text())["Statement"]
    assert (listing["Action"], listing["Resource"]) == (["s3:ListBucket"], ["arn:aws:s3:::BUCKET"])
    assert all(name.startswith("arn:aws:s3:::BUCKET/PREFIX/") for name in work["Resource"])
    assert not [action for action in work["Action"] if "*" in action]


def test_nothing_that_is_the_heads_alone_is_given_to_a_worker():
    openstack = yaml.safe_load((CLUSTER / "cluster.yaml").read_text())["provider"]["worker_env"]
    own_premises = yaml.safe_load((CLUSTER / "cluster-onprem.yaml").read_text())
    documents = yaml.safe_load_all((CLUSTER / "kuberay" / "secret.example.yaml").read_text())
    secrets = {document["metadata"]["name"]: document["stringData"] for document in documents}
    given = [entry.partition("=")[0] for entry in openstack] + [*secrets["axons-workers"]]
    example = (CLUSTER / "worker.env.example").read_text()
    given += [line.partition("=")[0] for line in example.splitlines() if not line.startswith("#")]
    assert not set(given) & set(HEADS_OWN)
    assert [name for name in given if name.startswith("AXONS_") and name != "AXONS_STORAGE_ENCRYPTION"] == []
    assert own_premises["file_mounts"] == {"~/worker.env": "worker.env"}
    assert "axons.env" not in " ".join(own_premises["worker_start_ray_commands"])
    own_keys = {f"AWS_{name}=WORKER_{name}" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")}
    assert own_keys <= set(openstack)
