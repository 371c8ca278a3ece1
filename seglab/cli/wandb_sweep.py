"""The W&B sweep that tries what a sweep of conf/sweep tries, for `wandb sweep` and `wandb agent`."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig

from seglab.cli.command_line import parse_values
from seglab.cli.conf_groups import CONF
from seglab.cli.data_command import compose_data
from seglab.cli.resolvers import register_resolvers
from seglab.errors import InputError

METRIC = "best_val_miou"  # of a finished run's summary
# keys that are the command's own, or of one run alone
_OF_EACH_RUN = ("resume", "run_dir", "hydra.run.dir", "hydra.mode")


def sweep_config(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns a W&B sweep config: a grid of lists of values, or a Bayesian search where a key has an interval.

    Each of its runs is `train.py sweep=NAME hydra.mode=RUN` with one value of each key, in a folder of the sweep's.

    Args:
        name: of the sweep in conf/sweep.
        overrides: more lists of values, `KEY=V1,V2`, and words that each run gets, `KEY=VALUE`; both replace a list
            of the sweep's.

    Raises:
        InputError: The sweep and the overrides vary nothing, or in a way that W&B does not know; a key that the dataset
            needs is not given; or as `refuse_words_of_one_run` and `refuse_silence`.
    """
    refuse_words_of_one_run(overrides)
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"sweep={name}"], return_hydra_config=True)
    varied = parse_values(cfg.search.space if cfg.search else cfg.hydra.sweeper.params or {})
    words = [f"sweep={name}", "hydra.mode=RUN"]
    for word in overrides:
        override = OverridesParser.create().parse_override(word) if "=" in word else None
        if override is not None:
            varied.pop(override.get_key_element(), None)
        if override is not None and override.is_sweep_override():
            varied[override.get_key_element()] = override
        else:
            words.append(word)
    if not varied:
        raise InputError(f"sweep={name} varies nothing then: leave the list of a key in, or add KEY=VALUE,VALUE")
    parameters = {key: parameter(key, override) for key, override in varied.items()}
    run = compose_data([*words, *(f"{key}={_first(each)}" for key, each in parameters.items())])
    searched = any("values" not in each for each in parameters.values())
    refuse_silence(run)
    return {
        "name": run.sweep.name or name,
        **{key: run.logger.wandb[key] for key in ("project", "entity") if run.logger.wandb.get(key)},
        "program": "train.py",
        "method": "bayes" if searched else "grid",
        "metric": {"name": METRIC, "goal": "maximize"},
        **({"run_cap": cfg.search.trials} if searched and cfg.search else {}),
        "parameters": parameters,
        "command": [
            "${env}",
            "${interpreter}",
            "${program}",
            *words,
            "hydra.run.dir=${hydra.sweep.dir}/${oc.env:WANDB_RUN_ID}",
            "${args_no_hyphens}",
        ],
    }


def refuse_words_of_one_run(words: Sequence[str]) -> None:
    """Refuses words that cannot go to each run of a sweep.

    Raises:
        InputError: Naming the first of these.
    """
    for word in words:
        if word.partition("=")[0].lstrip("+~") in _OF_EACH_RUN:
            raise InputError(f"{word}: each run of the sweep starts anew, in its own folder: leave it out")


def refuse_silence(run: DictConfig) -> None:
    """Refuses runs that tell W&B nothing, whose agent would wait for their results in vain.

    Raises:
        InputError: Naming the key.
    """
    if "wandb" not in run.logger:
        raise InputError("logger: W&B deals out runs that are logged to it: leave logger= out, or give logger=wandb")
    if (mode := run.logger.wandb.mode) not in ("auto", "online"):
        raise InputError(f"logger.wandb.mode={mode}: W&B deals out runs that are logged to it: leave it out")


def parameter(key: str, override: Override) -> dict[str, Any]:
    """Returns a key's values, or the range that they are drawn from, as W&B writes them.

    Numbers and booleans stay what they are; any other value is the text that Hydra's command line takes.

    Raises:
        InputError: W&B has nothing like it.
    """
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        whole, log = isinstance(sweep.start, int), "log" in sweep.tags
        if whole and log:
            raise InputError(f"{key}: W&B draws no whole numbers on a logarithmic scale; give {key}=VALUE,VALUE,...")
        kind = "int_uniform" if whole else "log_uniform_values" if log else "uniform"
        return {"distribution": kind, "min": sweep.start, "max": sweep.end}
    if not isinstance(sweep, ChoiceSweep | RangeSweep):
        raise InputError(f"{override.input_line}: write the values out, {key}=VALUE,VALUE,...")
    pairs = zip(override.sweep_iterator(), override.sweep_string_iterator(), strict=True)
    return {"values": [value if isinstance(value, int | float) else text for value, text in pairs]}


def _first(values: Mapping[str, Any]) -> Any:
    return values["values"][0] if "values" in values else values["min"]
