"""What other thresholds than the most probable class would give: pixels counted by predicted probability."""

import numpy as np
import torch

from axons.data.layers import IGNORE_INDEX
from axons.data.rows import Row

NUM_BINS = 101  # of 0.01; the last holds a probability of 1


class ProbabilityCounts(Row):
    """Pixels by the predicted probability of one class: bin i counts those from i / 100 to below (i + 1) / 100.

    A threshold of i / 100 therefore takes exactly the pixels of the bins from i on.
    """

    of_class: list[int]
    of_others: list[int]


class ProbabilityCounter:
    """Counts the labelled pixels of a split, one class against all others."""

    def __init__(self, num_classes: int) -> None:
        self._counts = np.zeros((num_classes, 2, NUM_BINS), np.int64)

    def add(self, logits: torch.Tensor, truth: np.ndarray) -> None:
        """Count (K, H, W) logits against (H, W) uint8 class indices; `IGNORE_INDEX` does not count."""
        is_judged = torch.from_numpy(truth != IGNORE_INDEX)
        target = torch.from_numpy(truth)[is_judged].to(logits.device)
        probabilities = torch.softmax(logits, dim=0)[:, is_judged.to(logits.device)]
        for index, probability in enumerate(probabilities):  # all at once would take eight times the memory
            cells = (probability * (NUM_BINS - 1)).long() + NUM_BINS * (target != index)
            counts = torch.bincount(cells, minlength=2 * NUM_BINS)
            self._counts[index] += counts.reshape(2, NUM_BINS).cpu().numpy()

    def of(self, class_index: int) -> ProbabilityCounts:
        """The counts of a class so far."""
        of_class, of_others = self._counts[class_index].tolist()
        return ProbabilityCounts(of_class=of_class, of_others=of_others)
