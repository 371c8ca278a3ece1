"""What of a config a result follows from, so that runs of one configuration are known as such."""

import hashlib
import json
from typing import Any

_NOT_OF_THE_RESULT = ("run_dir", "resume", "sweep", "sweep_name", "search", "logger", "callbacks", "seed")
_BEST = {"monitor": "val/miou", "mode": "max"}
_NOT_OF_THE_DATA = ("root", "num_workers", "cache_mb", "download", "url")
_NOT_OF_THE_TRAINER = ("log_every_n_steps", "num_sanity_val_steps")


def config_of_result(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the part of a resolved config that a result follows from: no seed, folders, workers or loggers.

    Keys that are null, and nodes of nothing else, do not count, so that a run keeps its place when a later version
    adds a key that is off.
    """
    config = _without_nulls(config)
    content = {key: value for key, value in config.items() if key not in _NOT_OF_THE_RESULT}
    if callbacks := _callbacks_of_result(config.get("callbacks", {})):
        content["callbacks"] = callbacks
    for node in (content.get("data", {}), content.get("data", {}).get("source", {})):
        for key in _NOT_OF_THE_DATA:
            node.pop(key, None)
    for key in _NOT_OF_THE_TRAINER:
        content.get("trainer", {}).pop(key, None)
    return _without_nulls(content)


def _callbacks_of_result(callbacks: dict[str, Any]) -> dict[str, Any]:
    """Returns what says how long a run trains and which of its epochs is tested, where it is not the default."""
    best = {key: value for key, value in callbacks.get("best", {}).items() if key in _BEST}
    stopping = {key: value for key, value in (callbacks.get("early_stopping") or {}).items() if key != "_target_"}
    of_result = {"early_stopping": stopping, "best": None if best in ({}, _BEST) else best}
    return _without_nulls(of_result)


def config_hash(config: dict[str, Any]) -> str:
    """Returns 12 hex digits of `config_of_result`."""
    return hashlib.sha256(json.dumps(config_of_result(config), sort_keys=True).encode()).hexdigest()[:12]


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Returns nested dicts as one dict of dotted keys; lists are values."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    return {
        key: value
        for name, child in node.items()
        for key, value in flat(child, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def differing_keys(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Returns the keys, of `flat`, that two configs do not have alike; one that is missing is as if null."""
    return [key for key in {**one, **other} if one.get(key) != other.get(key)]


def plain(value: Any) -> str:
    """Returns a config's value as it is typed."""
    return value if isinstance(value, str) else json.dumps(value)


def _without_nulls(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    kept = {key: _without_nulls(value) for key, value in node.items()}
    return {key: value for key, value in kept.items() if value not in (None, {})}
