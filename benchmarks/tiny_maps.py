"""Training a 3 x 3 convolution of a tiny map: oneDNN's convolution against one matrix product over all images.

    python benchmarks/tiny_maps.py [--batch-size 50] [--rounds 5]

For each size of map and number of channels: the time of forward and backward of each on one thread, the best of rounds
in which they take turns, and the ratio. seglab.models.convolution takes the matrix product where the channels are 32
times the pixels or more; that is the rule to check on another processor. Then the same for resunet6 at a quarter of its
widths on crops of 64 x 64, whose deepest maps have 2 x 2 pixels and 608 channels.
"""

import argparse
import time
from collections.abc import Callable

import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional as F

from seglab.cli.build import build_model
from seglab.cli.memory import keep_freed_memory
from seglab.cli.mistakes import CONF
from seglab.cli.resolvers import register_resolvers
from seglab.models import convolution

NUM_CLASSES = 9


def best_of(rounds: int, step: Callable[[], torch.Tensor]) -> tuple[float, float]:
    """Returns the least seconds of `step` and its backward with oneDNN and with the matrix product."""
    seconds = {False: [], True: []}
    for _ in range(rounds + 1):
        for product in seconds:
            convolution.SLOW_ON_TINY_MAPS = product
            start = time.perf_counter()
            step().backward()
            seconds[product].append(time.perf_counter() - start)
    return min(seconds[False][1:]), min(seconds[True][1:])


def main() -> None:
    """Measures and prints one line for each size and width, then one for the network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, batch of {arguments.batch_size}")

    rule, convolution.CHANNELS_PER_PIXEL = convolution.CHANNELS_PER_PIXEL, 0
    print("map    channels  oneDNN ms  product ms  ratio  taken by the rule")
    for side in (1, 2, 3, 4, 6):
        for channels in (64, 128, 256, 608):
            layer = convolution.SameConv2d(channels, channels, 3).to(memory_format=torch.channels_last)
            shape = arguments.batch_size, channels, side, side
            features = torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()
            theirs, ours = best_of(arguments.rounds, lambda layer=layer, features=features: layer(features).sum())
            line = f"{side} x {side}  {channels:8}  {theirs * 1e3:9.2f}  {ours * 1e3:10.2f}  {theirs / ours:5.2f}"
            print(line, "yes" if channels >= rule * side**2 else "no", sep="  ")

    convolution.CHANNELS_PER_PIXEL = rule
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["model=resunet6", "model.width=0.25"])
    network = build_model(config, [0.0] * 3, [1.0] * 3).train().to(memory_format=torch.channels_last)
    image = torch.randint(0, 256, (arguments.batch_size, 3, 64, 64), dtype=torch.uint8)
    mask = torch.randint(0, NUM_CLASSES, (arguments.batch_size, 64, 64))
    theirs, ours = best_of(arguments.rounds, lambda: F.cross_entropy(network(image), mask))
    print(f"resunet6, width 0.25, 64 x 64: {theirs:.2f} s and {ours:.2f} s, ratio {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
