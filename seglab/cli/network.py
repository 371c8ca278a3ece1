"""Networks of finished runs, ready to score and to predict: one, or the mean of several."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from seglab.cli.build import build_model
from seglab.cli.evaluation_folder import several
from seglab.cli.hardware import resolve_precision
from seglab.cli.network_options import check_scales
from seglab.cli.resolvers import register_resolvers
from seglab.cli.run_folder import checkpoint_path, load_checkpoint, load_config
from seglab.cli.temperature import resolve_temperature
from seglab.data.reader import resize_image
from seglab.errors import InputError
from seglab.models import Segmenter
from seglab.task.inference import Inference, resized_bands

_ROWS = 64  # that become classes and probabilities at a time


@dataclass(frozen=True)
class Network:
    """What predicts a photograph.

    Attributes:
        inference: the networks, on their device.
        class_names: names of the classes.
        resize: length in pixels that a photograph's shorter side is brought to before; none leaves its size.
        in_bf16: whether convolutions run in bfloat16.
        temperature: divides the logits where they become probabilities.
    """

    inference: Inference
    class_names: list[str]
    resize: int | None
    in_bf16: bool
    temperature: float = 1.0

    @torch.inference_mode()
    def predict(self, image: np.ndarray, with_probabilities: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns preds uint8 (h, w) of an image uint8 (h, w, 3), and where asked for float16 (num_classes, h, w).

        Raises:
            InputError: It is no such image.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(f"an image of {image.dtype} {image.shape}: give RGB as uint8 (height, width, 3), 0 to 255")
        size = image.shape[:2]
        pixels = np.require(resize_image(image, self.resize), requirements=["C", "W"])  # a view may be mirrored
        resized = torch.from_numpy(pixels.transpose(2, 0, 1))
        preds, probabilities = np.empty(size, np.uint8), None
        if with_probabilities:
            probabilities = np.empty((len(self.class_names), *size), np.float16)
        device = next(self.inference.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.in_bf16):
            bands = self.inference.bands(resized)
            if resized.shape[1:] != size:
                bands = resized_bands(bands, resized.shape[1], size)
            for top, band in bands:
                for logits in band.split(_ROWS, dim=1):
                    rows = slice(top, top := top + logits.shape[1])
                    preds[rows] = logits.max(0).indices.to(torch.uint8).cpu().numpy()
                    if probabilities is not None:
                        probabilities[:, rows] = (logits / self.temperature).softmax(0).half().cpu().numpy()
        return preds, probabilities


def load_network(runs: Sequence[Path], options: Namespace, temperature: str | float | None = None) -> Network:
    """Loads runs of the same classes to predict with.

    Args:
        runs: their folders.
        options: device, and those of `load_inference`.
        temperature: a number above 0, or `fitted`; 1 by default.

    Raises:
        InputError: As `check_scales`, `load_inference` and `resolve_temperature`, or there is no such device.
    """
    check_scales(options.scales)
    register_resolvers()
    configs = [load_config(run) for run in runs]
    inference = load_inference(runs, configs, options)
    accelerator = "auto" if options.device == "auto" else options.device.split(":")[0]
    precision = resolve_precision(configs[0].trainer.precision, accelerator)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        inference = inference.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise InputError(f"device={device} cannot be used ({said}): give auto, cpu, or a GPU such as cuda:0") from None
    data = configs[0].data
    divisor = resolve_temperature(temperature, runs, options)
    return Network(inference, list(data.class_names), data.resize, precision == "bf16-mixed", divisor)


def load_inference(runs: Sequence[Path], configs: Sequence[DictConfig], options: Namespace | DictConfig) -> Inference:
    """Loads the checkpoints of runs of the same classes.

    Args:
        runs: their folders.
        configs: the config of each.
        options: checkpoint (one or several), flip, scales, window and overlap.

    Raises:
        InputError: A checkpoint cannot be read, the runs have other classes or sizes, or an option is out of range.
    """
    for run, config in zip(runs[1:], configs[1:], strict=True):
        for key in ("class_names", "resize"):
            if config.data[key] != configs[0].data[key]:
                raise InputError(f"{run} and {runs[0]} have another data.{key}: their mean makes no sense")
    models = [
        load_model(run, config, checkpoint)
        for run, config in zip(runs, configs, strict=True)
        for checkpoint in several(options.checkpoint)
    ]
    try:
        return Inference(models, options.flip, options.scales, options.window or None, options.overlap)
    except ValueError as error:
        raise InputError(str(error)) from None


def load_model(run: Path, config: DictConfig, checkpoint: str) -> Segmenter:
    """Returns a run's network with the weights of a checkpoint.

    Raises:
        InputError: There is no such checkpoint, or it is of another network.
    """
    path, model = checkpoint_path(run, checkpoint), build_model(config)
    restore(model, "model", path)
    return model.to(memory_format=torch.channels_last)


def restore(part: nn.Module, name: str, checkpoint: Path) -> None:
    """Gives a part of the task, its `model` or its `loss`, the state that a checkpoint holds of it.

    Raises:
        InputError: The checkpoint is of another network.
    """
    state, prefix = load_checkpoint(checkpoint).get("state_dict", {}), f"{name}."
    try:
        part.load_state_dict(
            {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        )
    except RuntimeError as error:
        raise InputError(f"{checkpoint} is not of this run's network: {str(error).splitlines()[0]}") from None
