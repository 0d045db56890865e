"""Server-side encryption: what every object that we write to S3 asks for."""

import os
import re

# Every node has it in its environment, like the keys of S3: whoever writes must ask.
VARIABLE = "AXONS_STORAGE_ENCRYPTION"

_KMS = "aws:kms"
_ASKED = re.compile(r"AES256|aws:kms(:[A-Za-z0-9:/_.-]+)?")


def encryption_arguments(asked: str) -> dict[str, str]:
    """What S3's own calls need: `AES256` (keys of the storage), `aws:kms` (its key service), or `aws:kms:KEY`.

    Raises:
        ValueError: something else is asked for.
    """
    if not asked:
        return {}
    if not _ASKED.fullmatch(asked):
        raise ValueError(f"{VARIABLE} is {asked!r}; use AES256, aws:kms or aws:kms:KEY")
    if not asked.startswith(_KMS):
        return {"ServerSideEncryption": asked}
    key = asked.removeprefix(_KMS).removeprefix(":")
    return {"ServerSideEncryption": _KMS, **({"SSEKMSKeyId": key} if key else {})}


def check_encryption(asked: str, storage_uri: str) -> None:
    """Refuse what would promise more than it keeps.

    Raises:
        ValueError: the storage is not S3, or something else is asked for.
    """
    if storage_uri.startswith("abfs"):
        raise ValueError(f"{VARIABLE} is for S3: Azure encrypts everything by itself; leave it out")
    if not storage_uri.startswith("s3://"):
        raise ValueError(f"{VARIABLE} is for S3, and the storage is the folder {storage_uri}; encrypt its disk instead")
    encryption_arguments(asked)


def encryption_of_this_node() -> dict[str, str]:
    """The arguments that the environment asks for; none by default."""
    return encryption_arguments(os.environ.get(VARIABLE, ""))
