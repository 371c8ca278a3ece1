"""What stands in a run's folder: where things are, and the summary that every other tool reads."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seglab.cli.command_line import did_you_mean, quoted
from seglab.errors import InputError
from seglab.replace_text import replace_text


def shown(path: Path) -> str:
    """Returns a path as a user would type it: relative where it lies below the working folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def load_config(run: Path) -> DictConfig:
    """Returns the config that a run was made of.

    Raises:
        InputError: The folder is not a run's, or its config is damaged.
    """
    return _loaded(run / ".hydra" / "config.yaml", DictConfig)


def _loaded(path: Path, kind: type) -> Any:
    if not path.is_file():
        run = path.parents[1]
        raise InputError(
            f"{run} is not a run folder: {path} is missing; give the folder that the run's last line names"
        )
    try:
        content = OmegaConf.load(path)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
    else:
        if isinstance(content, kind) and (content or kind is ListConfig):  # an empty file is an empty table
            return content
        reason = "other content"
    raise InputError(f"{path} cannot be read ({reason}): it is damaged; restore it, or train again")


def forbid_download(data: DictConfig) -> None:
    """Sets a run's `data` to what is there: only a training fetches a dataset."""
    if "download" in data:
        data.download = False


def checkpoint_path(run: Path, checkpoint: str) -> Path:
    """Returns the file of `best`, `last` or of a path.

    Raises:
        InputError: There is no such file.
    """
    path = run / "checkpoints" / f"{checkpoint}.ckpt" if checkpoint in ("best", "last") else Path(checkpoint)
    if not path.is_file():
        hint = "" if checkpoint in ("best", "last") else did_you_mean(checkpoint, ("best", "last"))
        there = ", ".join(sorted(each.name for each in (run / "checkpoints").glob("*.ckpt"))) or "no checkpoint"
        fault = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(
            f"checkpoint={checkpoint}: {path} {fault}; {hint}give best, last or a path ({run} has {there})"
        )
    return path


def has_checkpoint(run: Path) -> bool:
    """Returns whether a run has a checkpoint to go on from."""
    return bool(_checkpoints_to_go_on_from(run))


def _checkpoints_to_go_on_from(run: Path) -> list[Path]:
    paths = [run / "checkpoints" / name for name in ("last.ckpt", "last-previous.ckpt")]
    return [path for path in paths if path.is_file()]


def last_checkpoint(run: Path) -> Path:
    """Returns the checkpoint that a run with one goes on from: the last, or the one before it if that cannot be read.

    Raises:
        InputError: Neither can be read.
    """
    return read_last_checkpoint(run)[0]


def read_last_checkpoint(run: Path) -> tuple[Path, dict[str, Any]]:
    """Returns the `last_checkpoint` and its content.

    Raises:
        InputError: As `last_checkpoint`.
    """
    paths = _checkpoints_to_go_on_from(run)
    for path in paths[:-1]:
        try:
            return path, load_checkpoint(path)
        except InputError:
            continue
    return paths[-1], load_checkpoint(paths[-1])


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Returns a checkpoint's content on the CPU, tensors and plain containers only.

    Raises:
        InputError: The file cannot be read as one.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        said = getattr(error, "strerror", None) or str(error).partition(". ")[0].rpartition(":")[2].strip()
        reason = said or type(error).__name__
        raise InputError(
            f"{path} cannot be read as a checkpoint ({reason}): it is damaged or no checkpoint of seglab; "
            "restore the file, or train again"
        ) from None


def resume_overrides(run: Path, overrides: list[str]) -> list[str]:
    """Returns the command line that goes on with a run: its own overrides, then the new ones, in its own folder.

    Raises:
        InputError: The folder is not a run's, or has nothing to go on from; or several runs or another folder are asked
            for.
    """
    load_config(run)
    if not has_checkpoint(run):
        raise InputError(f"{run} has no checkpoint to go on from: start it anew, with another hydra.run.dir")
    if {"-m", "--multirun"} & set(overrides):
        raise InputError(f"resume={run} goes on with one run: leave out -m")
    folders = ("run_dir", "hydra.run.dir")
    if elsewhere := [word for key, word in latest(overrides).items() if key in folders]:
        raise InputError(f"{elsewhere[0]}: a run goes on in its own folder, {run}: leave it out, or copy that first")
    own = list(_loaded(run / ".hydra" / "overrides.yaml", ListConfig))
    options = [word for word in overrides if word.startswith("-") or not ("=" in word or word.startswith("~"))]
    merged = latest([*own, *(word for word in overrides if word not in options)])
    for key in folders:  # where it began: it may have been moved or copied since
        merged.pop(key, None)
    merged["resume"] = f"resume={quoted(str(run))}"
    return [*options, *merged.values(), f"hydra.run.dir={quoted(str(run))}", "hydra.mode=RUN"]


def latest(overrides: Sequence[str]) -> dict[str, str]:
    """Returns the last word for each key; a key that was added with + stays one that is added."""
    words: dict[str, str] = {}
    for word in overrides:
        key = word.split("=", 1)[0].lstrip("+")
        added = words.get(key, "").startswith("+") and not word.startswith("+")
        words[key] = f"+{word}" if added else word
    return words


def save_config(cfg: DictConfig, overrides: list[str], run: Path) -> None:
    """Writes the composed config, also with every reference resolved, and its overrides to the run's folder."""
    folder = run / ".hydra"
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / "config.yaml", OmegaConf.to_yaml(cfg))
    replace_text(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(overrides)))
    replace_text(folder / "resolved.json", json.dumps(resolved(cfg), indent=2) + "\n")


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Returns a config as plain containers, every reference resolved."""
    return OmegaConf.to_container(cfg, resolve=True)


@contextmanager
def unchanged_if_refused(run: Path) -> Iterator[None]:
    """Puts a run's config and summary back where a mistake of the user's ends the block before anything was trained."""
    names = ("summary.json", ".hydra/config.yaml", ".hydra/overrides.yaml", ".hydra/resolved.json")
    before = {run / name: (run / name).read_text(encoding="utf-8") for name in names if (run / name).is_file()}
    trained = _stamps(run)
    try:
        yield
    except (InputError, HydraException, OmegaConfBaseException):
        if has_checkpoint(run) and trained == _stamps(run):
            for path, text in before.items():
                replace_text(path, text)
        raise


def _stamps(run: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in _checkpoints_to_go_on_from(run)]


def make_folder(folder: Path, key: str) -> None:
    """Makes a folder and those above it, where they are not there.

    Raises:
        InputError: It cannot be made, or not be written to; it names the key.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{key}={folder} cannot be made ({error.strerror}): give another {key}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{key}={folder} cannot be written to: change its permissions, or give another {key}")


def read_summary(run: Path) -> dict[str, Any]:
    """Returns the run's summary; nothing if it has none.

    Raises:
        InputError: It is damaged.
    """
    path = run / "summary.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): restore it, or move the run's folder away") from None


def write_summary(run: Path, values: dict[str, Any]) -> None:
    """Writes summary.json over an older one as a whole; keys not given are kept, those given as none removed."""
    path = run / "summary.json"
    summary = read_summary(run) | values
    summary = {key: value for key, value in summary.items() if value is not None or key == "git_commit"}
    replace_text(path, json.dumps(summary, indent=2) + "\n")
