"""Base of the typed values that cross a process, a file or the network, as JSON on the way."""

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from axons.errors import AxonsError


class Row(BaseModel):
    """A frozen value checked once, on construction; unknown fields are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
    )

    def packed(self) -> bytes:
        """As bytes of JSON."""
        return self.model_dump_json().encode()

    @classmethod
    def unpacked(cls, data: bytes | str, *, name: str, error: type[AxonsError]) -> Self:
        """Read JSON from storage or a person.

        Raises:
            error: `name`, the first field that is wrong, and why.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as problem:
            first = problem.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the document"
            raise error(
                f"{name} is not readable: {field}: {first['msg']}; restore the file or make it again"
            ) from problem
