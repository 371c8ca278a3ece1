"""Whether an exported file says of photographs what the run's own network says."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.nn import functional as F

from seglab.cli.network import Network
from seglab.cli.photographs import find_photographs
from seglab.cli.run_folder import forbid_download
from seglab.data.files import read_image
from seglab.data.reader import resize_image
from seglab.errors import InputError

SIZES = (33, 17), (97, 131), (225, 161)  # odd ones, one below the stride of most networks
LEAST_EQUAL = 0.9999
_PHOTOGRAPHS = 4


def photographs_to_check(cfg: DictConfig, path: Path | None) -> tuple[str, list[np.ndarray]]:
    """Returns what the photographs are, and each as uint8 (h, w, 3).

    They are those of a path; without one the first of the run's test split or, where its dataset is not at hand, noise.

    Raises:
        InputError: The path does not exist, has no photographs, or one cannot be read.
    """
    if path is not None:
        if photographs := [read_image(file) for file, _ in find_photographs([path])[0]]:
            return str(path), photographs
        raise InputError(f"--check {path}: holds no photograph")
    try:
        forbid_download(cfg.data)
        source = instantiate(cfg.data.source, _convert_="all")
        places = range(min(_PHOTOGRAPHS, len(source.names("test"))))
        return f"{cfg.data.name}, split test", [source.read("test", place)[0] for place in places]
    except (InputError, HydraException):
        noise = np.random.default_rng(0).integers(0, 256, (_PHOTOGRAPHS, 96, 128, 3), np.uint8)
        return "noise, for want of the dataset; --check takes photographs", list(noise)


def batches(photographs: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields images uint8 (b, h, w, 3): two photographs at each of `SIZES`, then each at its own size."""
    two = photographs[0], photographs[-1]
    for height, width in SIZES:
        yield np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in two])
    yield from (image[None] for image in photographs)


@torch.inference_mode()
def compare(
    exported: Callable[[np.ndarray], dict[str, np.ndarray]], network: Network, images: np.ndarray
) -> dict[str, Any]:
    """Returns how far the outputs for images uint8 (b, h, w, 3) agree: plain values.

    Args:
        exported: Maps images uint8 (b, 3, h, w) to outputs by their names.
        network: The run's own, on whole images.
        images: One batch.
    """
    found = exported(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    masks = np.stack([network.predict(image)[0] for image in images])
    differences = {}
    if len(found) > 1:
        logits = torch.cat([own_logits(network, image) for image in images])
        expected = {"logits": logits, "probabilities": logits.softmax(1)}
        differences = {
            name: float(np.abs(values - expected[name].numpy()).max())
            for name, values in found.items()
            if name != "mask"
        }
    batch, height, width = masks.shape
    equal = float((found["mask"] == masks).mean()) if found["mask"].shape == masks.shape else 0.0
    return {"batch": batch, "height": height, "width": width, "pixels_equal": equal, "differences": differences}


def own_logits(network: Network, image: np.ndarray) -> torch.Tensor:
    """Returns the network's logits float32 (1, num_classes, h, w) of an image uint8 (h, w, 3), at its own size."""
    resized = resize_image(image, network.resize).transpose(2, 0, 1)
    return F.interpolate(network.inference(torch.from_numpy(resized)[None]), image.shape[:2], mode="bilinear")
