"""The order of the queue, as a function of who waits and who was served."""

from datetime import UTC, datetime, timedelta

from axons.app.jobs.queue import Served, Waiting, fair_order

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOBODY = Served(classrooms={}, users={})


def waiting(names: str, *, classroom: str | None = "class", after: int = 0) -> list[Waiting]:
    """One job for each letter, which is its person, a second apart; ids count the jobs of a person: a1, a2, b1."""
    return [
        Waiting(
            job_id=f"{name}{names[: i + 1].count(name)}",
            classroom_id=classroom,
            user_id=name,
            created_at=NOON + timedelta(seconds=after + i),
        )
        for i, name in enumerate(names)
    ]


def test_everybodys_first_job_comes_before_anybodys_second():
    assert fair_order(waiting("aaabbc"), NOBODY) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_who_was_served_longest_ago_comes_first():
    served = Served(classrooms={"class": NOON}, users={"a": NOON, "b": NOON - timedelta(hours=1)})
    assert fair_order(waiting("abc"), served) == ["c1", "b1", "a1"]


def test_a_small_class_takes_turns_with_a_large_one():
    jobs = waiting("abcd", classroom="large") + waiting("xy", classroom="small", after=100)
    assert fair_order(jobs, NOBODY) == ["a1", "x1", "b1", "y1", "c1", "d1"]


def test_a_job_that_a_crash_has_interrupted_comes_first():
    [late] = waiting("z", after=1000)
    jobs = [*waiting("ab"), Waiting(**{**vars(late), "is_interrupted": True})]
    assert fair_order(jobs, NOBODY) == ["z1", "a1", "b1"]


def test_an_empty_queue_is_in_order():
    assert fair_order([], NOBODY) == []
