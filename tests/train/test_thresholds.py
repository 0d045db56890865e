import numpy as np
import pytest
import torch

from axons.train.thresholds import NUM_BINS, ProbabilityCounter


@pytest.fixture(params=[2, 4])
def counted(request):
    """Logits and truth of so many classes with some pixels left open, and what was counted in two strips."""
    rng = np.random.default_rng(request.param)
    logits = torch.from_numpy(rng.normal(0, 3, (request.param, 40, 30)).astype(np.float32))
    truth = rng.choice([*range(request.param), 255], (40, 30)).astype(np.uint8)
    counter = ProbabilityCounter(request.param)
    for rows in (slice(0, 25), slice(25, 40)):
        counter.add(logits[:, rows], truth[rows])
    return torch.softmax(logits, dim=0).numpy(), truth, counter


@pytest.mark.parametrize("percent", [0, 1, 33, 50, 90, 99])
def test_the_pixels_above_a_threshold_are_counted_exactly(counted, percent):
    probabilities, truth, counter = counted
    for index, probability in enumerate(probabilities):
        counts = counter.of(index)
        is_taken = (probability >= percent / 100) & (truth != 255)
        assert sum(counts.of_class[percent:]) == np.count_nonzero(is_taken & (truth == index))
        assert sum(counts.of_others[percent:]) == np.count_nonzero(is_taken & (truth != index))


def test_certain_pixels_are_in_the_last_bin():
    counter = ProbabilityCounter(2)
    counter.add(torch.tensor([[[100.0]], [[-100.0]]]), np.zeros((1, 1), np.uint8))
    assert counter.of(0).of_class == [0] * (NUM_BINS - 1) + [1]
    assert counter.of(1).of_others == [1] + [0] * (NUM_BINS - 1)
