"""Twelve people at work for a quarter of an hour: nothing grows, nothing is lost (R26, shortened)."""

import pytest

from tests.faults.soak import soak

MINUTES = 15
GROWTH = 0.10
HANDLES = 10  # connections come and go


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_memory_and_handles_stay_flat_while_people_work(record_property):
    found = soak(MINUTES)
    record_property("minutes", MINUTES)
    record_property("application", found.application.told())
    record_property("proxy", found.proxy.told())
    record_property("answers", found.told)
    assert found.application.memory_share < GROWTH
    assert found.proxy.memory_share < GROWTH
    for growth in (found.application, found.proxy):
        assert growth.handles[1] <= growth.handles[0] + HANDLES
    assert (found.num_broken, found.num_lost) == (0, 0)
