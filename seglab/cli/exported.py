"""Exported networks: writing them as ONNX or as a program of torch.export, and reading them back."""

import copy
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic_shapes
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from seglab.errors import InputError
from seglab.models.exportable import Exportable

PROGRAM = ".pt2"  # suffix of a program of torch.export; what has another is an ONNX model
DIMENSIONS = {0: "batch", 2: "height", 3: "width"}
METADATA_FILE = "seglab.json"  # within a program of torch.export
_LARGEST_FILE = 1.9e9  # bytes; protobuf ends at 2 GiB, and the weights of larger networks go to a file beside


def trace(network: Exportable, size: tuple[int, int]) -> ExportedProgram:
    """Returns a network as a graph for any batch, height and width from 1.

    Args:
        network: In evaluation mode.
        size: Height and width of the example that it is traced with.

    Raises:
        InputError: Torch cannot trace it.
    """
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format).requires_grad_(False)
    example = torch.zeros(2, 3, *size, dtype=torch.uint8)
    shapes = ({dimension: Dim.DYNAMIC for dimension in DIMENSIONS},)
    try:
        with symbolic_shapes.patch(backed_size_oblivious=True):
            program = torch.export.export(network, (example,), dynamic_shapes=shapes)
    except Exception as error:  # torch raises many kinds
        raise InputError(f"torch.export cannot trace this network: {_first_line(error)}") from None
    # What torch concludes of the sizes is about memory layouts, not results, and would refuse a batch of 1 or a small
    # image of some networks: the check of parity stands in its place.
    program._guards_code.clear()
    for symbol in program.range_constraints:
        program.range_constraints[symbol] = ValueRanges(1, int_oo)
    return program


def write_program(program: ExportedProgram, path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes a program of torch.export; the metadata goes to its extra file `seglab.json`."""
    torch.export.save(program, path, extra_files={METADATA_FILE: json.dumps(dict(metadata), indent=2)})


def write_onnx(
    program: ExportedProgram, path: Path, metadata: Mapping[str, Any], outputs: Sequence[str], opset: int | None
) -> None:
    """Writes an ONNX model with its metadata; weights of more than 1.9 GB go to a file beside it.

    Args:
        program: What `trace` returns.
        path: Of the file.
        metadata: Goes to `metadata_props`: texts as they are, all else as JSON.
        outputs: Names of the outputs, in their order.
        opset: Version of ONNX's operators; torch's own choice if None.

    Raises:
        InputError: An operation of the network is not known to ONNX.
    """
    import onnx_ir

    try:
        with warnings.catch_warnings(action="ignore"):
            made = torch.onnx.export(program, input_names=["image"], output_names=list(outputs), opset_version=opset,
                                     dynamic_shapes={"image": DIMENSIONS}, dynamo=True, verbose=False)  # fmt: skip
    except Exception as error:  # torch raises many kinds
        raise InputError(f"the network cannot be written as ONNX: {_first_line(error)}") from None
    for output in made.model.graph.outputs:
        classes = [output.shape[1]] if output.name != "mask" else []
        output.shape = onnx_ir.Shape(["batch", *classes, "height", "width"])
    for key, value in metadata.items():
        made.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value)
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    made.save(path, external_data=size > _LARGEST_FILE)


def open_exported(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Returns what maps images uint8 (b, 3, h, w) to the outputs of a written file, by their names."""
    if path.suffix == PROGRAM:
        module = torch.export.load(path).module()
        return lambda images: {key: value.numpy() for key, value in module(torch.from_numpy(images)).items()}
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"image": images}), strict=True))


def _first_line(error: Exception) -> str:
    """Returns the first line that says something, of the error that came first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
