"""Groups of images by a pattern of a person."""

import time

import pytest

from axons.app.jobs.grouping import groups_of
from axons.errors import TrainingSetRefused


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [(r"rat\d+", ["rat1", "rat12"]), (r"rat(\d+)", ["1", "12"]), ("[a-z]+", ["rat", "rat"])],
)
def test_the_group_is_what_the_pattern_finds_in_the_name(pattern, groups):
    assert groups_of(["rat1-a.png", "rat12-b.png"], pattern) == groups


def test_an_image_without_a_group_is_named():
    with pytest.raises(TrainingSetRefused, match="^the group 'rat.' is not in the name 'mouse.png'; each"):
        groups_of(["rat1.png", "mouse.png"], "rat.")


@pytest.mark.parametrize("pattern", ["(a|a)*b", ".*.*.*.*.*.*.*b"])
def test_a_pattern_that_takes_for_ever_is_refused_in_seconds(pattern, monkeypatch):
    monkeypatch.setattr("axons.app.jobs.grouping._TIMEOUT_S", 0.5)
    began = time.monotonic()
    with pytest.raises(TrainingSetRefused, match="takes too long on the names; write it simpler"):
        groups_of(["a" * 250], pattern)
    assert time.monotonic() - began < 5
