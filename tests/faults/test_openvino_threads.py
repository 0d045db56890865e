"""Several threads that use OpenVINO for the first time in a process: none of them stands still."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# Without the first look in `openvino_backend`, every second to sixth of such processes never ends.
PROGRAM = """
import sys
import numpy, openvino, torch
import openvino.opset13 as ops
from axons.serve.openvino_backend import _Requests

windows = ops.parameter([1, 1, 8, 8], numpy.float32)
network = openvino.Model([ops.relu(windows)], [windows], "relu")
settings = {"PERFORMANCE_HINT": "THROUGHPUT", "PERFORMANCE_HINT_NUM_REQUESTS": 8, "NUM_STREAMS": 8}
requests = _Requests(openvino.Core().compile_model(network, "CPU", settings))
sys.setswitchinterval(1e-6)
requests(torch.zeros(64, 1, 8, 8))
"""


@pytest.mark.parametrize("_attempt", range(6))
def test_threads_that_infer_for_the_first_time_do_not_wait_for_each_other(_attempt):
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
