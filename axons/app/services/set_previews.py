"""What a training set would be, before it is frozen: the same plan, and no work."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sqlmodel import Session, col, select

from axons.app.jobs.freeze import freeze_request
from axons.app.platform import Platform
from axons.app.policy import Actor
from axons.app.services.access import get_project
from axons.app.services.training_sets import TrainingSetCreate
from axons.app.tables import Image, TrainingSet
from axons.data.freezing import FreezePlan, plan_freeze
from axons.data.measuring import near_duplicates
from axons.data.training_set import SPLITS, ChosenImage, Diversity, LabelClass, Split, diversity_of, warnings_of


class PreviewImage(BaseModel):
    """An image of the set: whether a person has set its split, and the factor at which the network sees it."""

    image_id: str
    name: str
    split: Split
    is_chosen: bool
    group: str | None
    num_tiles: int
    scale: float


class PreviewSplit(BaseModel):
    """How much a split would have: `pixels` are labelled ones of each class, in the order of the classes."""

    num_images: int
    num_records: int
    pixels: list[int]


class Leak(BaseModel):
    """Images that belong together and lie in several splits; `split` is where a repair puts all of them.

    Args:
        pairs: of them that look the same and lie in different splits.
        groups: of them that lie in different splits.
    """

    image_ids: list[str]
    pairs: list[tuple[str, str]]
    groups: list[str]
    split: Split


class TrainingSetPreview(BaseModel):
    """What would be frozen now.

    Args:
        repair: the split that each image must be given so that nothing leaks any more; empty if nothing does.
    """

    classes: list[LabelClass]
    splits: dict[Split, PreviewSplit]
    images: list[PreviewImage]
    diversity: Diversity
    warnings: list[str]
    leaks: list[Leak]
    repair: dict[str, Split]


def preview_training_set(
    session: Session, actor: Actor, platform: Platform, project_id: str, form: TrainingSetCreate
) -> TrainingSetPreview:
    """Plan a training set as its freezing would, and write nothing.

    Raises:
        NotFound: there is no such project for the actor; TrainingSetRefused: the choices cannot be frozen.
    """
    project = get_project(session, actor, project_id)
    row = TrainingSet(
        project_id=project.id,
        number=0,
        name=form.name or project.name[:100],
        key="",
        request=form.model_dump(mode="json"),
        created_by=actor.user_id,
    )
    plan = plan_freeze(freeze_request(platform, session, row))
    ids = _ids(session, project.id, plan.images)
    leaks, repair = _leaks(plan.images, plan.splits, ids)
    return TrainingSetPreview(
        classes=plan.request.classes,
        splits={split: _split(plan, split) for split in SPLITS},
        images=[
            PreviewImage(
                image_id=row_id,
                name=image.name,
                split=split,
                is_chosen=image.split is not None,
                group=image.group,
                num_tiles=len(image.tiles),
                scale=plan.request.scale_of(image),
            )
            for row_id, image, split in zip(ids, plan.images, plan.splits, strict=True)
        ],
        diversity=diversity_of(plan.images),
        warnings=warnings_of(plan.images, plan.splits),
        leaks=leaks,
        repair=repair,
    )


def _ids(session: Session, project_id: str, images: Sequence[ChosenImage]) -> list[str]:
    """Ids of the rows; a set names its images as they are known since their first project."""
    asked = select(Image).where(
        col(Image.project_id) == project_id, col(Image.deleted_at).is_(None), col(Image.is_excluded).is_(False)
    )
    known = {row.known_as: row.id for row in session.exec(asked)}
    return [known[image.image_id] for image in images]


def _split(plan: FreezePlan, split: Split) -> PreviewSplit:
    images = [image for image, found in zip(plan.images, plan.splits, strict=True) if found == split]
    pixels = [sum(image.counts.get(index, 0) for image in images) for index in range(len(plan.request.classes))]
    num_records = sum(cell.split == split for shard in plan.shards for cell in shard.cells)
    return PreviewSplit(num_images=len(images), num_records=num_records, pixels=pixels)


def _leaks(
    images: Sequence[ChosenImage], splits: Sequence[Split], ids: Sequence[str]
) -> tuple[list[Leak], dict[str, Split]]:
    """What leaks, and the splits that repair it.

    A repair changes what is left to the draw, so it also holds together those that only chance has put into one split.
    """
    pairs = near_duplicates([image.hashes for image in images])
    leaks: list[Leak] = []
    kept: dict[str, Split] = {}
    for members in _belonging(images, pairs):
        split = _home([images[i] for i in members], [splits[i] for i in members])
        kept |= {ids[i]: split for i in members if images[i].split != split}
        crossing = [(ids[i], ids[j]) for i, j in pairs if i in members and splits[i] != splits[j]]
        groups = _split_groups(images, splits, members)
        if crossing or groups:
            found = [ids[i] for i in sorted(members)]
            leaks.append(Leak(image_ids=found, pairs=crossing, groups=groups, split=split))
    return leaks, kept if leaks else {}


def _belonging(images: Sequence[ChosenImage], pairs: Sequence[tuple[int, int]]) -> list[set[int]]:
    """Images that hang together by their looks or their groups, two or more each."""
    first_of: dict[str, int] = {}
    links = [*pairs]
    for i, image in enumerate(images):
        if image.group is not None:
            links.append((first_of.setdefault(image.group, i), i))
    ends: Any = np.array(links, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(links)), (ends[0], ends[1])), shape=(len(images), len(images)))
    members: dict[int, set[int]] = defaultdict(set)
    for i, label in enumerate(connected_components(graph, directed=False)[1]):
        members[int(label)].add(i)
    return [found for found in members.values() if len(found) > 1]


def _home(images: Sequence[ChosenImage], splits: Sequence[Split]) -> Split:
    """Where they shall be: as they are if in one split, else as persons have agreed, else in train."""
    chosen = {image.split for image in images if image.split is not None}
    for found in (set(splits), chosen):
        if len(found) == 1:
            return found.pop()
    return "train"


def _split_groups(images: Sequence[ChosenImage], splits: Sequence[Split], members: set[int]) -> list[str]:
    found: dict[str, set[Split]] = defaultdict(set)
    for i in members:
        if (group := images[i].group) is not None:
            found[group].add(splits[i])
    return sorted(group for group, places in found.items() if len(places) > 1)
