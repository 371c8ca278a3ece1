"""Runs grouped by what they were made of, and what sets the groups apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seglab.lab.result_config import config_hash, config_of_result, flat, plain
from seglab.lab.runs import Run

_GROUPS_OF_NO_NODE = ("experiment", "sweep")  # they set the values of other groups
LONG_LABEL = 60  # characters: above, labels keep only the values that tell them apart


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed alone.

    Attributes:
        label: a short name that no other group has.
        runs: at least one, by ascending seed.
        values: what sets the group apart from the others, by column.
    """

    label: str
    runs: list[Run]
    values: dict[str, Any]


def group_runs(runs: Sequence[Run], split: str = "test") -> list[Group]:
    """Groups runs by their resolved config without the seed and their evaluation, in the order of their first runs.

    The values of a group are the choices of config groups that differ (`model`, `augment`, ...) and, below a config
    group, the keys that differ between runs of the same choice; other keys where they differ at all. A group is called
    by its experiment where no other group has the same, else by its part of an ablation (`without`) where no other has
    the same, else by its values; where a label would be longer than `LONG_LABEL`, each by its experiment and as few of
    its values as no other group has. Where runs are read by different evaluations, `evaluation` is one of the values;
    `split` is the one of runs that name none.
    """
    members: dict[tuple[str, str], dict[Path, Run]] = {}
    for run in runs:  # each once, also where RUN and RUN/evaluation/test are given
        members.setdefault((config_hash(run.config), run.evaluated or split), {}).setdefault(run.resolved, run)
    groups = [sorted(group.values(), key=lambda run: run.seed) for group in members.values()]
    firsts = [group[0] for group in groups]
    columns = _differing(firsts)
    values = [{column: _value(run, column) for column in columns} for run in firsts]
    evaluations = [evaluation for _, evaluation in members]
    if len(set(evaluations)) > 1:
        values = [own | {"evaluation": name} for own, name in zip(values, evaluations, strict=True)]
    labels = _labels(firsts, values)
    return [Group(label, group, own) for label, group, own in zip(labels, groups, values, strict=True)]


def first_of_each_seed(runs: Sequence[Run]) -> list[Run]:
    """Returns the runs without those that repeat the seed of an earlier one."""
    return list({run.seed: run for run in reversed(runs)}.values())[::-1]


def common_runs(group: Group, base: Group) -> list[tuple[int, int]]:
    """Returns the places in both groups of the runs that they share, scored in two ways."""
    places = {run.resolved: place for place, run in enumerate(base.runs)}
    return [(place, places[run.resolved]) for place, run in enumerate(group.runs) if run.resolved in places]


def _differing(runs: Sequence[Run]) -> list[str]:
    if len(runs) < 2:
        return []
    groups = [key for key in runs[0].choices if key not in _GROUPS_OF_NO_NODE]
    columns = [key for key in groups if len({run.choices.get(key) for run in runs}) > 1]
    contents = [flat(config_of_result(run.config)) for run in runs]
    shown: set[tuple[str, ...]] = set()
    for key in dict.fromkeys(key for content in contents for key in content):
        group = key.split(".")[0]
        alike: dict[Any, set[str]] = {}
        for run, content in zip(runs, contents, strict=True):
            alike.setdefault(run.choices.get(group) if group in columns else None, set()).add(repr(content.get(key)))
        # A key that refers to another of its name, as model.encoder.width to model.width, says nothing new.
        repeated = (key.rpartition(".")[2], *(repr(content.get(key)) for content in contents))
        if any(len(values) > 1 for values in alike.values()) and repeated not in shown:
            columns.append(key)
            shown.add(repeated)
    return columns


def _value(run: Run, column: str) -> Any:
    if column in run.choices:
        return run.choices[column]
    return flat(config_of_result(run.config)).get(column)


def _labels(runs: Sequence[Run], values: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a name for each group that no other has, of its first run and of its values by column."""
    experiments = [run.choices.get("experiment") for run in runs]
    for choices, pattern in ((experiments, "{}"), ([run.choices.get("without") for run in runs], "without {}")):
        if None not in choices and len(set(choices)) == len(choices):
            return [pattern.format(choice) for choice in choices]
    ends = [column.rpartition(".")[2] for column in values[0]]
    keys = [end if ends.count(end) == 1 else column for end, column in zip(ends, values[0], strict=True)]
    words = [dict(zip(keys, map(plain, own.values()), strict=True)) for own in values]
    labels = [_label(own) for own in words]
    if max(map(len, labels)) > LONG_LABEL:
        if len(set(experiments)) > 1:
            words = [{"experiment": plain(name)} | own for name, own in zip(experiments, words, strict=True)]
        labels = [_label(_telling(own, words)) for own in words]
    labels = [label or run.name for label, run in zip(labels, runs, strict=True)]
    return unique_labels(labels, runs)


def unique_labels(labels: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """Returns the labels, those that stand there more than once with the name of their run behind them."""
    twice = {label for label in labels if labels.count(label) > 1}
    return [f"{label} ({run.name})" if label in twice else label for label, run in zip(labels, runs, strict=True)]


def _telling(own: dict[str, str], groups: Sequence[dict[str, str]]) -> dict[str, str]:
    """Returns a few of a group's values that no other group has all of: the experiment, then what rules out most."""
    kept, rivals = [], [other for other in groups if other != own]
    while rivals:
        telling = {key: sum(other[key] != own[key] for other in rivals) for key in own}
        kept.append("experiment" if "experiment" in own and not kept else max(own, key=telling.__getitem__))
        rivals = [other for other in rivals if other[kept[-1]] == own[kept[-1]]]
    return {key: word for key, word in own.items() if key in kept}


def _label(words: dict[str, str]) -> str:
    return ", ".join(f"{key}={word}" for key, word in words.items())
