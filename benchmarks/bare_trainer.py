"""The peer of train_tax.py: twenty steps through a bare TorchTrainer, as a short script would be written."""

import json
import sys
import time
from pathlib import Path

STARTED = time.time()


def loop(settings: dict) -> None:
    import segmentation_models_pytorch as smp
    import torch

    torch.set_num_threads(settings["threads"])
    network = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=3).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    images = torch.randn(8, 1, 256, 256).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, 3, (8, 256, 256))
    dice = smp.losses.DiceLoss("multiclass")
    ended = []
    for _ in range(settings["steps"]):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), targets) + dice(logits.float(), targets)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimiser.step()
        ended.append(time.time())
    Path(settings["out"]).write_text(json.dumps(ended))


def main(out: str, steps: int, threads: int) -> None:
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    TorchTrainer(
        loop,
        train_loop_config={"out": out, "steps": steps, "threads": threads},
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(name="bare", storage_path=str(Path(out).parent)),
    ).fit()
    ended = json.loads(Path(out).read_text())
    Path(out).write_text(json.dumps({"first_step_s": ended[0] - STARTED, "steps": ended}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
