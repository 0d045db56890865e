import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError

from axons.data.storage import open_storage
from axons.train.memory import KillsForMemory, forget_out_of_memory, note_out_of_memory, times_out_of_memory


@pytest.fixture
def run(tmp_path):
    return open_storage(str(tmp_path))


def test_processes_that_note_the_same_time_count_once(run):
    note_out_of_memory(run, times_before=0, message="first worker")
    note_out_of_memory(run, times_before=0, message="second worker")
    assert times_out_of_memory(run) == 1


def test_what_is_forgotten_counts_no_more(run):
    note_out_of_memory(run, times_before=0, message="full")
    forget_out_of_memory(run)
    assert times_out_of_memory(run) == 0


def test_a_process_killed_because_its_machine_was_full_is_noted(run):
    KillsForMemory(run.uri).after_exception(None, {0: OutOfMemoryError("the node was low on memory")})
    assert times_out_of_memory(run) == 1


def test_a_process_that_died_of_something_else_is_not_noted(run):
    KillsForMemory(run.uri).after_exception(None, {0: ActorDiedError(), 1: RuntimeError("no")})
    assert times_out_of_memory(run) == 0
