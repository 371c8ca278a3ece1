"""The layers that train on a CPU in a way of their own, against PyTorch's: one table for each, then networks.

    python benchmarks/layers.py [--rounds 5] [--threads 1] [--precision auto]

Milliseconds of forward and backward in channels_last memory, by default in the precision that trainer.precision=auto
chooses here; the best of rounds in which the two take turns, and theirs divided by ours.

- SameConv2d, a 3 x 3 convolution of a tiny map: oneDNN's against one matrix product, taken where the processor stops
  at AVX2 and the channels are 32 times the pixels or more. That is the rule to check on another processor.
- BatchNorm2d of a narrow map: PyTorch's against several pixels as one, taken below 32 channels other than 16.
- TransposedUpsample: oneDNN's transposed convolution against one matrix product.
- DepthwiseConv2d: oneDNN's strided and dilated convolutions of single channels against ours.
- resunet6 at a quarter of its widths on crops of 64 x 64; unet6, and DeepLabv3+ on a MobileNetV2, on crops of
  256 x 256.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from hydra import compose, initialize_config_dir
from torch import nn
from torch.nn import functional as F

from seglab.cli.build import build_model
from seglab.cli.conf_groups import CONF
from seglab.cli.hardware import resolve_precision
from seglab.cli.memory import keep_freed_memory
from seglab.cli.resolvers import register_resolvers
from seglab.models import TransposedUpsample, batch_norm, convolution
from seglab.models.depthwise import DepthwiseConv2d

NUM_CLASSES = 9
TINY_BATCH, BATCH = 50, 8


@contextmanager
def pytorchs_own() -> Iterator[None]:
    """Has every layer take PyTorch's way."""
    with (
        mock.patch.object(convolution, "SLOW_ON_TINY_MAPS", False),
        mock.patch.object(batch_norm, "LEAST_SIZE", math.inf),
        mock.patch.object(TransposedUpsample, "forward", nn.Sequential.forward),
        mock.patch.object(DepthwiseConv2d, "forward", nn.Conv2d.forward),
    ):
        yield


@contextmanager
def wherever_possible() -> Iterator[None]:
    """Has a convolution and a norm take our way on any processor and size."""
    with (
        mock.patch.object(convolution, "SLOW_ON_TINY_MAPS", True),
        mock.patch.object(convolution, "CHANNELS_PER_PIXEL", 0),
        mock.patch.object(batch_norm, "LEAST_SIZE", 0),
    ):
        yield


def best_of(rounds: int, step: Callable[[], Any], ours: Callable = wherever_possible) -> tuple[float, float]:
    """Returns the least milliseconds of `step` by PyTorch's way and by ours; `nullcontext` leaves it to the layers."""
    milliseconds = {pytorchs_own: [], ours: []}
    for _ in range(rounds + 1):
        for way, measured in milliseconds.items():
            with way():
                start = time.perf_counter()
                step()
                measured.append((time.perf_counter() - start) * 1e3)
    return min(milliseconds[pytorchs_own][1:]), min(milliseconds[ours][1:])


def layer_step(layer: nn.Module, bf16: bool, *shape: int) -> Callable[[], Any]:
    """Returns forward and backward of the layer on random features of that shape."""
    layer.to(memory_format=torch.channels_last)
    dtype = torch.bfloat16 if bf16 else torch.float32
    features = torch.randn(shape).to(dtype, memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn(layer(features.float()).shape).to(dtype, memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = layer(features)
        torch.autograd.grad(out, [features, *layer.parameters()], gradient)

    return step


def network_step(overrides: list[str], bf16: bool, batch_size: int, side: int) -> Callable[[], Any]:
    """Returns forward, loss and backward of a network."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides)
    network = build_model(config, [0.0] * 3, [1.0] * 3).train().to(memory_format=torch.channels_last)
    image = torch.randint(0, 256, (batch_size, 3, side, side), dtype=torch.uint8)
    mask = torch.randint(0, NUM_CLASSES, (batch_size, side, side))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(network(image).float(), mask)
        loss.backward()

    return step


def print_row(name: str, times: tuple[float, float], *notes: str) -> None:
    """Prints a line of a table."""
    theirs, ours = times
    print(f"{name:24}{theirs:9.2f}{ours:9.2f}{theirs / ours:9.2f}", *notes, sep="  ", flush=True)


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("auto", "32-true", "bf16-mixed"), default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    register_resolvers()
    precision = resolve_precision(arguments.precision, "cpu")
    bf16 = precision == "bf16-mixed"
    print(f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, {precision}", end=", ")
    print(f"{arguments.threads} thread{'s' * (arguments.threads > 1)}")

    print(f"\nSameConv2d, batch of {TINY_BATCH}        theirs     ours    ratio  taken on AVX2")
    for side in (1, 2, 3, 4, 6):
        for channels in (64, 128, 256, 608):
            step = layer_step(convolution.SameConv2d(channels, channels, 3), bf16, TINY_BATCH, channels, side, side)
            taken = "yes" if channels >= convolution.CHANNELS_PER_PIXEL * side**2 else "no"
            print_row(f"{side} x {side}, {channels} channels", best_of(arguments.rounds, step), taken)

    print(f"\nBatchNorm2d, batch of {BATCH}        theirs     ours    ratio  taken")
    for channels, side in ((8, 16), (8, 64), (8, 256), (10, 256), (12, 128), (16, 128), (20, 128), (24, 64), (31, 64)):
        layer = batch_norm.BatchNorm2d(channels)
        step = layer_step(layer, bf16, BATCH, channels, side, side)
        taken = "yes" if layer.fold(torch.empty(BATCH, side, side, channels).permute(0, 3, 1, 2)) > 1 else "no"
        print_row(f"{side} x {side}, {channels} channels", best_of(arguments.rounds, step), taken)

    print(f"\nTransposedUpsample, batch of {BATCH} theirs     ours    ratio")
    for channels, width, side in (
        (1024, 512, 4),
        (512, 256, 8),
        (256, 128, 16),
        (128, 64, 32),
        (64, 32, 64),
        (32, 10, 128),
    ):
        step = layer_step(TransposedUpsample(channels, width), bf16, BATCH, channels, side, side)
        print_row(f"{side} x {side}, {channels} to {width}", best_of(arguments.rounds, step))

    print(f"\nDepthwiseConv2d, batch of {BATCH}    theirs     ours    ratio")
    for channels, side, options in (
        (144, 64, {"stride": 2, "padding": 1}),
        (192, 32, {"stride": 2, "padding": 1}),
        (576, 16, {"stride": 2, "padding": 1}),
        (960, 16, {"dilation": 2, "padding": "same"}),
        (320, 16, {"dilation": 6, "padding": "same"}),
        (320, 16, {"dilation": 12, "padding": "same"}),
        (320, 16, {"dilation": 18, "padding": "same"}),
    ):
        layer = DepthwiseConv2d(channels, 3, bias=False, **options)
        step = layer_step(layer, bf16, BATCH, channels, side, side)
        said = "stride 2" if "stride" in options else f"rate {options['dilation']}"
        print_row(f"{side} x {side}, {channels}, {said}", best_of(arguments.rounds, step))

    print("\nnetworks                   theirs     ours    ratio")
    step = network_step(["model=resunet6", "model.width=0.25"], bf16, TINY_BATCH, 64)
    print_row("resunet6, width 0.25", best_of(arguments.rounds, step, nullcontext))
    step = network_step(["model=unet6"], bf16, BATCH, 256)
    print_row("unet6", best_of(arguments.rounds, step, nullcontext))
    step = network_step(["model=unet_mobilenetv2", "model/decoder=deeplabv3plus"], bf16, BATCH, 256)
    print_row("mobilenetv2, deeplabv3+", best_of(arguments.rounds, step, nullcontext))


if __name__ == "__main__":
    main()
