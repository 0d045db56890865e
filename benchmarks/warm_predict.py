"""The second prediction through the Serve segmenter, against the first, which loads and converts the model.

Target: less than half the time of the first.
"""

import time
from pathlib import Path

import ray
from ray import serve

from axons.serve.segmenter import ask_segmenter, deploy_segmenter
from benchmarks.drawn import draw_field, trained_model
from benchmarks.measuring import Figure, Result


def measure(scratch: Path, *, is_small: bool) -> Result:
    """See the module."""
    model_uri = trained_model(scratch, steps=10 if is_small else 40)
    image = draw_field(512, seed=1_000).image
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    handle = deploy_segmenter()
    took = []
    for _ in range(4):
        began = time.perf_counter()
        ask_segmenter(handle, image, model_uri=model_uri)(300)
        took.append(time.perf_counter() - began)
    serve.shutdown()
    ray.shutdown()
    first, second = took[:2]
    return Result(
        figures=[
            Figure(
                what="second call against the first",
                ours=second,
                peer=first,
                unit="s",
                ratio=first / second,
                target="second ÷ first < 0.5",
                reached=second < 0.5 * first,
            )
        ],
        notes=[f"image of 512²; third and fourth call: {took[2]:.2f} and {took[3]:.2f} s"],
    )
