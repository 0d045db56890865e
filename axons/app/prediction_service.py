"""The `segmenter` application with the settings of this installation."""

from axons.serve.segmenter import SegmenterSettings, deploy_segmenter
from axons.train.driver import cluster_gpus


def deploy_prediction_service(gpu_share: float, warm: list[str]) -> None:
    """Start it on the connected cluster, on a part of a GPU where there is any, with these models warm."""
    deploy_segmenter(SegmenterSettings(gpu_share=gpu_share if cluster_gpus() else 0.0, warm=warm))
