"""Every network of conf/model against the nearest one of segmentation_models_pytorch, in one run.

    pip install segmentation-models-pytorch==0.6.0
    python benchmarks/models.py [--models unet_mobilenetv2 unet6] [--sizes 256 512] [--rounds 3]

Networks on a backbone of timm meet the same backbone under smp's U-Net; that on DINOv2 meets its DPT on a ViT of the
same size. The others, which smp does not have, meet its U-Net on VGG-13 with BatchNorm, the plainest stack of 3x3
convolutions there; since their costs differ by up to a hundred times, they are compared by the arithmetic that they get
done in a second: images/s times the GFLOPs of a forward pass.
For each: training images per second (forward, loss, backward) on one batch in memory, in channels_last memory and the
precision that trainer.precision=auto takes here; medians of rounds in which the two take turns.
"""

import argparse
import statistics

import segmentation_models_pytorch as smp
import torch
from decoders import DEVICE, NUM_CLASSES, images_per_second
from hydra import compose, initialize_config_dir
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from seglab.cli.build import build_model
from seglab.cli.conf_groups import CONF
from seglab.cli.hardware import resolve_precision
from seglab.cli.memory import keep_freed_memory
from seglab.cli.resolvers import register_resolvers

ON_TIMM = {
    "unet_mobilenetv2": ("unet", "tu-mobilenetv2_100"),
    "unet_efficientnet_lite2": ("unet", "tu-tf_efficientnet_lite2"),
    "unet_resnet34": ("unet", "tu-resnet34"),
    "unet_resnet50": ("unet", "tu-resnet50"),
    "unet_convnext_tiny": ("unet", "tu-convnext_tiny"),
    "unet_dinov2": ("dpt", "tu-vit_small_patch16_224"),
}
PLAIN = ("unet", "vgg13_bn")
NETWORKS = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if path.stem not in ("base", "unet_timm"))


def build_ours(name: str) -> nn.Module:
    """Returns the network of conf/model with random weights, for NUM_CLASSES classes."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return build_model(compose("train", [f"model={name}"]), [0.5] * 3, [0.25] * 3)


def build_theirs(name: str) -> nn.Module:
    """Returns smp's nearest network."""
    decoder, encoder = ON_TIMM.get(name, PLAIN)
    options = {"dynamic_img_size": True} if decoder == "dpt" else {}
    return smp.create_model(decoder, encoder, encoder_weights=None, classes=NUM_CLASSES, **options)


def gflops(model: nn.Module, image: torch.Tensor) -> float:
    """Returns the cost of one image, forward, in 10^9 operations, two for each multiply-add."""
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image[:1])
    model.train()
    return counter.get_total_flops() / 1e9


def main() -> None:
    """Measures and prints one line for each network and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    register_resolvers()
    keep_freed_memory()
    precision = resolve_precision("auto", "auto")
    machine = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"batch {arguments.batch_size}, {precision}, {machine}")
    print("network             size  GFLOPs     smp  images/s     smp  ratio  ratio of GFLOP/s")
    for name in arguments.models:
        for size in arguments.sizes:
            image = torch.randint(0, 256, (arguments.batch_size, 3, size, size), dtype=torch.uint8, device=DEVICE)
            mask = torch.randint(0, NUM_CLASSES, (arguments.batch_size, size, size), device=DEVICE)
            inputs = [image, (image / 255).to(memory_format=torch.channels_last)]
            models = [build_ours(name), build_theirs(name)]
            models = [model.to(DEVICE, memory_format=torch.channels_last) for model in models]
            costs = [gflops(model, x) for model, x in zip(models, inputs, strict=True)]
            speeds: tuple[list[float], list[float]] = ([], [])
            for _ in range(arguments.rounds):
                for model, x, own in zip(models, inputs, speeds, strict=True):
                    own.append(images_per_second(model, x, mask, arguments.steps, precision))
            ours, theirs = map(statistics.median, speeds)
            done = ours * costs[0] / (theirs * costs[1])
            line = f"{name:19} {size:4} {costs[0]:7.2f} {costs[1]:7.2f} {ours:9.2f} {theirs:7.2f} {ours / theirs:6.2f}"
            print(f"{line} {done:17.2f}", flush=True)


if __name__ == "__main__":
    main()
