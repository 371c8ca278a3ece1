"""Weights of a timm backbone from a file."""

import sys
from collections.abc import Collection, Mapping
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from seglab.errors import InputError

_IN_CHECKPOINT = "model.encoder.backbone."  # prefix of a backbone's names in a checkpoint of seglab


def read_weights(path: str, backbone: nn.Module) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Reads the weights of a backbone: a state dict, by itself or in a training's checkpoint.

    timm's own function for the model renames those of other codes and resamples patch and position embeddings of
    another size.

    Args:
        path: File of torch or, by its suffix, of safetensors; tensors and plain containers only.
        backbone: The model of timm, its classifier included.

    Returns:
        The weights by the model's own names, and a mapping that holds the `mean` and `std` that they expect.

    Raises:
        InputError: The file cannot be read as weights.
    """
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", lambda state, model: state)
    try:
        state = _read(path)
        own = {key.removeprefix(_IN_CHECKPOINT): state[key] for key in state if key.startswith(_IN_CHECKPOINT)}
        if own:
            return own, {key: state[f"model.{key}"].flatten().tolist() for key in ("mean", "std")}
        return convert(state, backbone), backbone.pretrained_cfg
    except UnpicklingError:  # whose text advises to load whatever it is
        raise InputError(
            f"model.encoder.weights={path} cannot be read as weights: they are no file of torch, or more than tensors"
        ) from None
    except Exception as error:  # of many kinds, for a damaged file and for the content of another
        raise InputError(f"model.encoder.weights={path} cannot be read as weights ({first_line(error)})") from None


def _read(path: str) -> dict[str, Tensor]:
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):  # of a training's checkpoint
        content = content.get(key, content)
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def load_backbone(backbone: nn.Module, state: Mapping[str, Tensor], known: Collection[str], path: str) -> None:
    """Loads weights into every layer of a backbone.

    Args:
        backbone: The model of timm, its classifier cut off.
        state: The weights.
        known: Names of the model's weights with its classifier: those that are gone may be left over.
        path: Where the weights are from.

    Raises:
        InputError: Weights are missing, unknown or of another shape.
    """
    expected = {key: value for key, value in backbone.state_dict().items() if not key.endswith("num_batches_tracked")}
    faults = {
        "missing": [key for key in expected if key not in state],
        "unknown": [key for key in state if key not in known],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    said = [f"{len(names)} {fault}: {', '.join(names)}" for fault, names in faults.items() if names]
    if said:
        raise InputError("\n".join([f"model.encoder.weights={path} do not fit model.encoder.name:", *said]))
    backbone.load_state_dict(state, strict=False)


def first_line(error: Exception) -> str:
    """Returns the first line of what an error says, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
