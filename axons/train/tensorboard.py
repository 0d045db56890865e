"""The curves of a run as a TensorBoard event file."""

import tempfile
from datetime import datetime
from pathlib import Path

from tensorboardX import SummaryWriter

from axons.train.run import RunMetrics

EVENTS = "tensorboard/events.out.tfevents.run"


def event_file(metrics: RunMetrics) -> bytes:
    """All epochs as one file, which replaces the one before: object storage cannot append."""
    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(folder) as writer:
            for epoch in metrics.epochs:
                moment = datetime.fromisoformat(epoch.at).timestamp()
                curves = {
                    "loss/train": epoch.train_loss,
                    "loss/val": epoch.val_loss,
                    "iou/mean": epoch.val_mean_iou,
                    "learning_rate": epoch.learning_rate,
                    "crops_per_second": epoch.crops_per_second,
                    **{f"iou/class_{k}": value for k, value in enumerate(epoch.val_iou)},
                }
                for name, value in curves.items():
                    if value is not None:
                        writer.add_scalar(name, value, global_step=epoch.epoch, walltime=moment)
        (path,) = Path(folder).iterdir()
        return path.read_bytes()
