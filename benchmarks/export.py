"""Networks as ONNX files and programs of torch.export: agreement with torch, and the speed of onnxruntime against it.

    pip install -c requirements.lock -e ".[export]"
    python benchmarks/export.py                         # unet6 at full width
    python benchmarks/export.py "model=unet_resnet34 model/decoder=fpn" "model=unet4 model.width=0.1"

The weights are random, drawn so that the signal keeps its strength from layer to layer. For each network: the least
share of pixels of the same class over images of noise of `SIZES`, the largest difference of the logits over their
standard deviation, and the time of one image of 256 x 256 in onnxruntime over that in torch (float32, channels_last),
medians of rounds in which the two take turns.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from seglab.cli.build import build_model
from seglab.cli.conf_groups import CONF
from seglab.cli.exported import open_exported, trace, write_onnx, write_program
from seglab.cli.resolvers import register_resolvers
from seglab.models.exportable import Exportable

SIZES = [(1, 1, 1), (3, 5, 200), (1, 37, 64), (1, 63, 129), (2, 97, 131), (1, 225, 161)]
OUTPUTS = ["mask", "logits"]


def build(words: list[str]) -> nn.Module:
    """Returns a network with random weights (He et al. 2015, arXiv:1502.01852), in evaluation mode."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        model = build_model(compose("train", words)).eval()
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, std=(2 / module.weight[0].numel()) ** 0.5)
    return model.to(memory_format=torch.channels_last)


def agreement(model: nn.Module, path: Path) -> tuple[float, float]:
    """Returns the least share of equal pixels and the largest difference of logits, in their standard deviations."""
    exported, equal, difference = open_exported(path), 1.0, 0.0
    for size in SIZES:
        images = torch.randint(0, 256, (size[0], 3, *size[1:]), dtype=torch.uint8)
        found, expected = exported(images.numpy()), model(images).numpy()
        equal = min(equal, float((found["mask"] == expected.argmax(1)).mean()))
        difference = max(difference, float(np.abs(found["logits"] - expected).max() / expected.std()))
    return equal, difference


def times(model: nn.Module, path: Path, rounds: int) -> tuple[float, float]:
    """Returns the medians in ms of onnxruntime and of torch."""
    exported, image = open_exported(path), torch.randint(0, 256, (1, 3, 256, 256), dtype=torch.uint8)
    ways = (lambda: exported(image.numpy()), lambda: model(image).argmax(1))
    taken = ([], [])
    for _ in range(rounds + 1):
        for way, own in zip(ways, taken, strict=True):
            start = time.perf_counter()
            way()
            own.append((time.perf_counter() - start) * 1e3)
    return tuple(statistics.median(own[1:]) for own in taken)


@torch.inference_mode()
def main() -> None:
    """Measures and prints a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["model=unet6"], help="of each, its words in quotes")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    register_resolvers()
    print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, {torch.get_num_threads()} threads")
    for words in arguments.networks:
        torch.manual_seed(0)
        model = build(words.split())
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
            onnx, program = Path(folder) / "model.onnx", Path(folder) / "model.pt2"
            traced = trace(Exportable(model, outputs=OUTPUTS), (2 * model.stride + 1, 3 * model.stride + 1))
            write_onnx(traced, onnx, {}, OUTPUTS, None)
            write_program(traced, program, {})
            with torch.inference_mode():
                agreed = ", ".join(
                    f"{path.suffix} {equal:.4%} (logits {difference:.0e})"
                    for path in (onnx, program)
                    for equal, difference in [agreement(model, path)]
                )
                own, torchs = times(model, onnx, arguments.rounds)
        print(f"{words}: {agreed}; {own:.0f} ms, torch {torchs:.0f} ms, ratio {own / torchs:.2f}", flush=True)


if __name__ == "__main__":
    main()
