"""Labels in advance: what a model makes of one tile, for a person to accept or not."""

from collections.abc import Sequence

import numpy as np

from axons.app.tables import LabelClass
from axons.data.layers import UNLABELLED


def project_values(names: Sequence[str], classes: Sequence[LabelClass]) -> np.ndarray | None:
    """The value in the project's labels of each class of a model, by name; None if it knows nothing but background.

    A model's first class is background; a class that the project lacks is `UNLABELLED`.
    """
    indices = {row.name.casefold(): row.index for row in classes if row.deleted_at is None}
    found = [indices.get(name.casefold(), UNLABELLED) for name in names[1:]]
    return np.array([0, *found], np.uint8) if any(value not in (0, UNLABELLED) for value in found) else None
