"""The decoders of conf/model/decoder against those of the same name in segmentation_models_pytorch, in one run.

    pip install segmentation-models-pytorch==0.6.0
    python benchmarks/decoders.py [--encoder resnet50] [--decoders unet fpn] [--size 512] [--batch-size 8]

Both have the same encoder of timm with random weights. For each decoder: its parameters with the head's, and images per
second of forward, loss and backward on one batch in memory, in channels_last memory and the precision that
trainer.precision=auto takes here; medians of rounds in which the two take turns. The two libraries differ in details,
so that a ratio is of two decoders of one paper, not of two codes for one decoder.
"""

import argparse
import statistics
import time

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import nn
from torch.nn import functional as F

from seglab.cli.conf_groups import CONF
from seglab.cli.hardware import resolve_precision
from seglab.cli.memory import keep_freed_memory
from seglab.models import Segmenter, TimmEncoder

NUM_CLASSES = 9
DECODERS = ["unet", "unetplusplus", "fpn", "deeplabv3plus", "segformer", "upernet"]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def build_ours(decoder: str, encoder: str) -> nn.Module:
    """Returns a Segmenter; DeepLabv3+ has its encoder at stride 16, as the paper and smp do."""
    options = {"output_stride": 16} if decoder == "deeplabv3plus" else {}
    features = TimmEncoder(encoder, **options)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=["+model=unet6", f"+model/decoder={decoder}"]).model.decoder
    built = instantiate(config, _convert_="all")(channels=features.channels, strides=features.strides)
    return Segmenter(features, built, NUM_CLASSES)


def build_theirs(decoder: str, encoder: str) -> nn.Module:
    """Returns smp's network of the same name."""
    import segmentation_models_pytorch as smp

    return smp.create_model(decoder, f"tu-{encoder}", encoder_weights=None, classes=NUM_CLASSES)


def images_per_second(model: nn.Module, image: torch.Tensor, mask: torch.Tensor, steps: int, precision: str) -> float:
    """Returns the speed of forward, loss and backward after one step to warm up."""
    for step in range(steps + 1):
        if step == 1:
            synchronize()
            start = time.perf_counter()
        model.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16-mixed"):
            F.cross_entropy(model(image).float(), mask).backward()
    synchronize()
    return steps * len(image) / (time.perf_counter() - start)


def synchronize() -> None:
    """Waits for a GPU to finish."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def decoder_parameters(model: nn.Module) -> int:
    """Returns the number of parameters outside the encoder."""
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("encoder."))


def main() -> None:
    """Measures and prints one line for each decoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet50", help="a model of timm")
    parser.add_argument("--decoders", nargs="+", default=DECODERS, choices=DECODERS)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    keep_freed_memory()
    precision = resolve_precision("auto", "auto")
    side = arguments.size
    image = torch.randint(0, 256, (arguments.batch_size, 3, side, side), dtype=torch.uint8, device=DEVICE)
    mask = torch.randint(0, NUM_CLASSES, (arguments.batch_size, side, side), device=DEVICE)
    inputs = {build_ours: image, build_theirs: (image / 255).to(memory_format=torch.channels_last)}
    machine = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{arguments.encoder}, {side} x {side}, batch {arguments.batch_size}, {precision}, {machine}")
    print("decoder         parameters          smp  ratio   images/s      smp  ratio")
    for name in arguments.decoders:
        models = {
            build: build(name, arguments.encoder).to(DEVICE, memory_format=torch.channels_last) for build in inputs
        }
        speeds: dict = {build: [] for build in inputs}
        for _ in range(arguments.rounds):
            for build, x in inputs.items():
                speeds[build].append(images_per_second(models[build], x, mask, arguments.steps, precision))
        ours, theirs = (decoder_parameters(model) for model in models.values())
        speed, their_speed = (statistics.median(values) for values in speeds.values())
        parameters = f"{ours:11,} {theirs:12,} {ours / theirs:6.2f}"
        print(f"{name:14} {parameters} {speed:10.2f} {their_speed:8.2f} {speed / their_speed:6.2f}", flush=True)


if __name__ == "__main__":
    main()
