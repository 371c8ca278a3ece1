"""The temperature that a run's probabilities are judged and written at: a number, or one fitted on its val split."""

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seglab.cli.command_line import typed
from seglab.cli.evaluation_folder import inference_settings, settings_name
from seglab.errors import InputError

FITTED = "fitted"
FIT = "fit"
_LEAST, _MOST = 0.01, 100  # beyond these probabilities are 0, 1, or all alike


def resolve_temperature(
    value: str | float | None, runs: Sequence[Path], options: Namespace | DictConfig, protocol: str | None = None
) -> float:
    """Returns what logits are divided by before they become probabilities.

    Args:
        value: A number from 0.01 to 100, or `fitted` for that of an earlier fit; None is 1.
        runs: as for `temperature_path`.
        options: as for `temperature_path`.
        protocol: as for `temperature_path`.

    Raises:
        InputError: It is neither, or nothing was fitted.
    """
    if value is None:
        return 1.0
    if value != FITTED:
        try:
            temperature = 0.0 if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            temperature = 0.0
        if not _LEAST <= temperature <= _MOST:
            raise InputError(f"temperature={value}: give a number from {_LEAST} to {_MOST}, or {FITTED}")
        return temperature
    path = temperature_path(runs, options, protocol)
    try:
        return json.loads(path.read_text(encoding="utf-8"))["temperature"]
    except FileNotFoundError:
        command = fitting_command(runs, options, protocol)
        raise InputError(f"temperature={FITTED}: {path} is missing: {command} writes it") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged: fit the temperature again") from None


def write_temperature(fit: Any, path: Path, result: dict[str, Any]) -> None:
    """Writes a fitted temperature and says what it is.

    Raises:
        InputError: No pixel was scored.
    """
    import numpy as np

    from seglab.task.calibration import TEMPERATURES

    try:
        found = fit.compute()
    except ValueError as error:
        raise InputError(f"temperature={FIT}: {error} in split {result['split']}") from None
    record = {key: result[key] for key in ("split", "num_images", "protocol")}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found | record, indent=2) + "\n")
    if np.isclose(found["temperature"], TEMPERATURES[[0, -1]]).any():
        print(f"the best temperature lies beyond {found['temperature']:g}, the last that is tried")
    print(f"temperature {found['temperature']:.4f}: NLL {found['nll']:.4f} -> {found['nll_with_it']:.4f}  {path}")


def temperature_path(runs: Sequence[Path], options: Namespace | DictConfig, protocol: str | None) -> Path:
    """Returns where the temperature is that was fitted for a way of inference; windows do not set it apart.

    Args:
        runs: the folders of the runs, whose mean is taken.
        options: checkpoint, flip, scales, window and overlap.
        protocol: where it is another than the run's own.
    """
    settings = _without_windows(runs, options)
    name = "-".join(["val", *([protocol] if protocol else []), *settings_name(settings)])
    return runs[0] / "evaluation" / name / "temperature.json"


def fitting_command(runs: Sequence[Path], options: Namespace | DictConfig, protocol: str | None) -> str:
    """Returns the command that writes the file of `temperature_path`."""
    values: dict[str, Any] = {"run": list(map(str, runs))} | _without_windows(runs, options)
    values |= {"runs": None, "protocol": protocol, "split": "val", "temperature": FIT}
    for key in ("run", "checkpoint"):
        values[key] = values[key][0] if len(values.get(key) or []) == 1 else values.get(key)
    return " ".join(["python evaluate.py", *(typed(*each) for each in values.items() if each[1] is not None)])


def _without_windows(runs: Sequence[Path], options: Namespace | DictConfig) -> dict[str, Any]:
    settings = inference_settings(runs, options)
    return {key: value for key, value in settings.items() if key not in ("window", "overlap")}
