"""A project as one ZIP that travels: what is in it, member by member.

project.json              `ProjectDocument`, with the sha256 of every other member
images/N.tif              working image of `images[N]`, byte for byte
labels/N.jsonl            one `ArchivedLabels` a line: the newest revision of each tile of `images[N]` that has one
training-sets/N/...       manifest and shards of `training_sets[N]`, byte for byte
examples/N.png            picture of `examples[N]`
models/N/...              weights and validation crops of `models[N]`
"""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from axons import __version__
from axons.app.texts import ClassName, Colour, Identifier, LongText, Name, OneLine
from axons.data.layers import MAX_CLASS_INDEX
from axons.data.rows import Row
from axons.data.training_set import Split
from axons.model.files import ModelCard

VERSION: Literal[1] = 1
MAX_EXAMPLES = 24
DOCUMENT = "project.json"

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
ImageName = Annotated[OneLine, StringConstraints(min_length=1, max_length=255)]


class ArchivedMember(Row):
    """A file of the archive."""

    name: str
    sha256: Sha256
    num_bytes: int


class ArchivedClass(Row):
    """A label class; a deleted one keeps its index."""

    index: int = Field(ge=0, le=MAX_CLASS_INDEX)
    name: ClassName
    colour: Colour
    is_deleted: bool


class ArchivedImage(Row):
    """What is known of an image, see `tables.Image`; the rest is measured again.

    Args:
        source_id: the id by which training sets know the image, wherever it travels.
    """

    source_id: Identifier
    name: ImageName
    sha256: Sha256
    num_bytes: int = Field(ge=0)
    format: Annotated[OneLine, StringConstraints(max_length=20)]
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    channels: Literal[1, 3]
    dtype: Literal["uint8", "uint16"]
    mean: list[Finite]
    std: list[Finite]
    pixel_size_um: float | None = Field(default=None, gt=0, le=1e6)
    geo: dict[str, Any] | None = None
    notices: list[LongText] = Field(max_length=100)
    group: Annotated[OneLine, StringConstraints(max_length=120)] | None = None
    split: Split | None = None
    is_excluded: bool


class ArchivedLabels(Row):
    """The labels of a tile; `layers` as `axons.data.layers.pack` writes them."""

    row0: int
    col0: int
    revision: int = Field(ge=1, lt=2**31)
    is_done: bool
    layers: bytes


class ArchivedSet(Row):
    """A training set; everything else is in its manifest."""

    number: int = Field(ge=1, lt=2**31)
    name: Name
    sha256: Sha256
    request: dict[str, Any]


class ArchivedModel(Row):
    """A version of a model."""

    name: Name
    version: int = Field(ge=1, lt=2**31)
    card: ModelCard


class ArchivedExample(Row):
    """A picture that shows how to label, or how not to."""

    caption: Annotated[OneLine, StringConstraints(min_length=1, max_length=300)]
    is_good: bool


class ProjectDocument(Row):
    """`project.json`."""

    version: Literal[1] = VERSION
    code_version: str = __version__
    name: Name
    description: LongText
    instructions: LongText
    tile: int = Field(ge=64, le=2048)
    threshold: float = Field(ge=0, le=1)
    classes: list[ArchivedClass] = Field(min_length=1)
    images: list[ArchivedImage]
    training_sets: list[ArchivedSet]
    models: list[ArchivedModel]
    examples: list[ArchivedExample] = Field(max_length=MAX_EXAMPLES)
    members: list[ArchivedMember] = []

    @model_validator(mode="after")
    def _check(self) -> "ProjectDocument":
        if [row.index for row in self.classes] != list(range(len(self.classes))):
            raise ValueError("the class indices are not 0, 1, 2, …")
        _check_unique("class", [row.name.casefold() for row in self.classes if not row.is_deleted])
        _check_unique("image id", [row.source_id for row in self.images])
        _check_unique("training set", [row.number for row in self.training_sets])
        _check_unique("model", [(row.name, row.version) for row in self.models])
        return self


def image_member(number: int) -> str:
    """The working image of an image."""
    return f"images/{number}.tif"


def labels_member(number: int) -> str:
    """The labels of an image; there is none for an image without labels."""
    return f"labels/{number}.jsonl"


def example_member(number: int) -> str:
    """The picture of an example."""
    return f"examples/{number}.png"


def set_member(number: int, key: str) -> str:
    """A file of a training set."""
    return f"training-sets/{number}/{key}"


def model_member(number: int, key: str) -> str:
    """A file of a model."""
    return f"models/{number}/{key}"


def _check_unique(what: str, names: list[Any]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"a {what} is there twice")
