"""The applications that predict, with the settings of this installation."""

from ray import serve

from axons.app.preparing import models_to_warm
from axons.app.settings import Settings
from axons.serve.segmenter import GPU_APPLICATION, SegmenterSettings, build_segmenter, deploy_segmenter
from axons.train.driver import cluster_gpus


def deploy_prediction_service(settings: Settings, warm: list[str], *, has_own_ray: bool) -> None:
    """Start them on the connected cluster, with these models warm.

    Args:
        has_own_ray: the cluster is this machine and no other: a GPU, if it has one, is always there.
    """
    share = settings.segmenter_gpu_share if cluster_gpus() else 0.0
    if has_own_ray:
        deploy_segmenter(SegmenterSettings(gpu_share=share, warm=warm))
        return
    deploy_segmenter(on_cpu().model_copy(update={"warm": warm}))
    if share or (settings.segmenter_gpu_share and settings.segmenter_min_replicas):  # its machines may come later
        deploy_segmenter(on_gpu(settings).model_copy(update={"warm": warm}), name=GPU_APPLICATION)


def on_cpu() -> SegmenterSettings:
    """On a cluster: the one on the head, which always answers."""
    return SegmenterSettings(on_head=True)


def on_gpu(settings: Settings) -> SegmenterSettings:
    """On a cluster: the one on GPU machines, which come and go. Some of them offer no CPU, so it asks for none."""
    least = settings.segmenter_min_replicas
    return SegmenterSettings(
        gpu_share=settings.segmenter_gpu_share, num_cpus=0, min_replicas=least, num_replicas=max(1, least)
    )


def build(settings: SegmenterSettings) -> serve.Application:
    """For the `import_path` of a Serve config, whose `args` are the settings; with the models in use warm.

    A database that is a file belongs to another process, so then none is.
    """
    installed = Settings()
    if settings.warm or installed.database_url is None:
        return build_segmenter(settings)
    return build_segmenter(settings.model_copy(update={"warm": models_to_warm(installed)}))
