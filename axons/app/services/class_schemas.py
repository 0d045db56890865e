"""Classes from a schema of Django Labeller."""

from typing import Annotated

from pydantic import BaseModel, Field
from sqlmodel import Session

from axons.app.policy import Actor
from axons.app.services.label_classes import ClassCreate, add_class, classes_of
from axons.app.tables import LabelClass
from axons.app.texts import ClassName
from axons.data.formats import IGNORED_NAME
from axons.data.layers import MAX_CLASS_INDEX

_Channel = Annotated[int, Field(ge=0, le=255)]


class SchemaClass(BaseModel):
    """A class as a schema has it; `name` is what label files say, and one of its colours becomes ours."""

    name: ClassName
    colours: dict[str, tuple[_Channel, _Channel, _Channel]] = Field({}, max_length=100)

    @property
    def colour(self) -> str | None:
        """The default colour, else any, as #rrggbb."""
        found = self.colours.get("default") or next(iter(self.colours.values()), None)
        return f"#{bytes(found).hex()}" if found else None


class SchemaGroup(BaseModel):
    """Classes that stand together."""

    group_classes: list[SchemaClass] = Field(max_length=MAX_CLASS_INDEX + 1)


class SchemaImport(BaseModel):
    """A schema as Django Labeller saves it; what we have no place for (colour schemes, groups) is passed over."""

    label_class_groups: list[SchemaGroup] = Field(min_length=1, max_length=MAX_CLASS_INDEX + 1)


def add_schema(session: Session, actor: Actor, project_id: str, schema: SchemaImport) -> list[LabelClass]:
    """Add the classes of a schema that the project lacks, in its order; gives those. The others stay as they are.

    Raises:
        Conflict: all indices are used up.
    """
    known = {row.name.casefold() for row in classes_of(session, project_id) if row.deleted_at is None}
    known.add(IGNORED_NAME)
    added = []
    for found in (found for group in schema.label_class_groups for found in group.group_classes):
        if found.name.casefold() not in known:
            known.add(found.name.casefold())
            form = ClassCreate(name=found.name, colour=found.colour)
            added.append(add_class(session, actor, project_id, form))
    return added
