"""How many training samples one core prepares in a second, by augmentation, against none.

    python benchmarks/augmentation.py [--root PATH] [--size 256] [--samples 200] [--rounds 5]

The photographs are decoded and kept in memory before the first round, as they are after the first epoch of a training.
The rounds interleave the settings, so that a noisy machine is noisy for all; each figure is the median of its rounds,
in seconds of the processor, which do not count what other programs take of it.
"""

import argparse
import statistics
import time

import cv2
import torch
from hydra import compose, initialize_config_dir

from seglab.cli.build import build_datamodule
from seglab.cli.conf_groups import CONF
from seglab.cli.resolvers import register_resolvers
from seglab.data.dataset import TrainDataset

SETTINGS = {
    "none": ["augment=none"],
    "flip": ["augment=flip"],
    "albu": ["augment=albu"],
    "strong": ["augment=strong"],
    "scale": ["augment=none", "data.scale=[0.5,2.0]"],
    "cutmix": ["augment=none", "mix=cutmix"],
    "classmix": ["augment=none", "mix=classmix"],
    "copy_paste": ["augment=none", "mix=copy_paste"],
    "strong, scale": ["augment=strong", "data.scale=[0.5,2.0]"],
    "strong, copy_paste": ["augment=strong", "mix=copy_paste"],
    "strong, scale, copy_paste": ["augment=strong", "data.scale=[0.5,2.0]", "mix=copy_paste"],
}


def build(words: list[str], root: str | None, size: int) -> TrainDataset:
    """Returns the training samples of a command."""
    data = ["data=voc9", f"data.root={root}"] if root else ["data=shapes", "data.source.train=200"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return build_datamodule(compose("train", [*data, f"data.crop_size={size}", *words])).train_dataset


def milliseconds(dataset: TrainDataset, epoch: int, samples: int) -> float:
    """Returns the processor's time for one sample."""
    start = time.process_time()
    for index in range(samples):
        dataset[epoch, index % len(dataset)]
    return (time.process_time() - start) / samples * 1000


def main() -> None:
    """Measures and prints one line for each setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="photographs in VOC's layout; made scenes if not given")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    register_resolvers()
    datasets = {name: build(words, arguments.root, arguments.size) for name, words in SETTINGS.items()}
    reader = next(iter(datasets.values())).reader
    for i in range(len(reader)):
        reader[i]
    for dataset in datasets.values():
        dataset.reader = reader
    times: dict[str, list[float]] = {name: [] for name in datasets}
    for epoch in range(arguments.rounds):
        for name, dataset in datasets.items():
            times[name].append(milliseconds(dataset, epoch, arguments.samples))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{arguments.size} x {arguments.size}, one thread, {arguments.rounds} rounds of {arguments.samples} samples")
    for name, value in medians.items():
        print(f"{name:<26} {1000 / value:7.0f} samples/s  {value:6.2f} ms  {value / medians['none']:6.2f} of none")


if __name__ == "__main__":
    main()
