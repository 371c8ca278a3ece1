"""What a search draws a trial's values from, in Hydra's words for a sweep."""

from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from seglab.cli.command_line import parse_values
from seglab.errors import InputError


def parse_space(space: Mapping[str, str]) -> dict[str, Override]:
    """Returns the parsed values of a search space, written in Hydra's own words for a sweep.

    Args:
        space: key to `choice(a,b)`, `interval(low,high)` or `range(start,stop,step)`; `tag(log,interval(low,high))` is
            a logarithmic scale, `int(interval(low,high))` whole numbers.

    Raises:
        InputError: A value is none of these.
    """
    parsed = parse_values(space)
    for key, override in parsed.items():
        if not isinstance(override.value(), ChoiceSweep | IntervalSweep | RangeSweep):
            raise InputError(
                f"search.space.{key}={space[key]}: give choice(a,b), interval(low,high) or range(start,stop,step)"
            )
    return parsed


def suggest(trial: Any, key: str, override: Override) -> str:
    """Returns the word `key=value` that an Optuna trial takes from a key's part of the space."""
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        draw = trial.suggest_int if isinstance(sweep.start, int) else trial.suggest_float
        value = draw(key, sweep.start, sweep.end, log="log" in sweep.tags)
    elif isinstance(sweep, RangeSweep):
        values = sorted(sweep.range())
        draw = trial.suggest_int if isinstance(values[0], int) else trial.suggest_float
        value = draw(key, values[0], values[-1], step=abs(sweep.step))
    else:
        value = trial.suggest_categorical(key, list(override.sweep_string_iterator()))
    return f"{key}={value}"


def check_space(space: Mapping[str, str], study: Any) -> None:
    """Refuses a space that cannot be drawn from, or not in this study.

    Raises:
        InputError: Naming the key.
    """
    import optuna
    from optuna.distributions import check_distribution_compatibility

    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler()).ask()
    searched = {key: value for each in study.get_trials(deepcopy=False) for key, value in each.distributions.items()}
    for key, override in parse_space(space).items():
        try:
            suggest(trial, key, override)
        except (ValueError, IndexError) as error:
            raise InputError(f"search.space.{key}={space[key]}: nothing can be drawn from it ({error})") from None
        try:
            check_distribution_compatibility(searched.get(key, trial.distributions[key]), trial.distributions[key])
        except ValueError:
            raise InputError(
                f"search.space.{key}={space[key]}: the search has drawn it from another space already; give another "
                "sweep.name"
            ) from None
