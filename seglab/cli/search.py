"""Searches a space of config keys with Optuna: workers that share one study, each trial a run of its own."""

import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seglab.cli import job
from seglab.cli.run_folder import has_checkpoint, read_summary, shown
from seglab.cli.search_space import check_space, parse_space, suggest
from seglab.cli.sweep_job import claim, put_aside, slot, start_words
from seglab.cli.sweep_plan import resolved_config
from seglab.errors import InputError
from seglab.lab.result_config import config_hash
from seglab.lab.runs import read_history

JOURNAL = "study.journal"
CONFIG = "config_hash"  # of what all trials share, in the study


def run_worker(cfg: DictConfig) -> None:
    """Runs trials until the study has `search.trials` of them, those that an earlier sitting left cut first.

    A trial is one training in `<sweep>/trial-<number>`. What it reaches on validation after each epoch is reported to
    the study, whose pruner may stop it.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.sweep.dir)
    base = base_words(hydra.overrides.task)
    space = parse_space(cfg.search.space)
    study = open_study(cfg, folder, base)
    tried: set[int] = set()
    while True:
        with _claimed(study, folder, cfg) as trial:
            if trial is None:
                return
            run, drawn = trial_folder(folder, trial.number), [suggest(trial, *key) for key in space.items()]
            with slot(folder) as environment:
                command = trial_command(base, drawn, run)
                _run_trial(study, trial, command, run, cfg.sweep.timeout, environment, trial.number in tried)
            tried.add(trial.number)


def base_words(words: Sequence[str]) -> list[str]:
    """Returns the words of the command line that are of every trial."""
    return [word for word in words if not word.startswith("search.")]


def trial_folder(folder: Path, number: int) -> Path:
    """Returns a trial's run folder."""
    return folder / f"trial-{number:04d}"


def open_study(cfg: DictConfig, folder: Path, base: list[str]) -> Any:
    """Returns the study of a sweep's folder, made if there is none; many processes may hold it at once.

    Raises:
        InputError: There is one of other configs, whose scores say nothing of these.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)  # of the sampler's options that the config asks for
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    names = optuna.get_all_study_names(storage)
    study = optuna.create_study(
        study_name=names[0] if names else "search",
        storage=storage,
        direction="maximize",
        sampler=instantiate(cfg.search.sampler, _convert_="all"),
        pruner=instantiate(cfg.search.pruner, _convert_="all"),
        load_if_exists=True,
    )
    searched = config_hash(resolved_config(base))
    if study.user_attrs.setdefault(CONFIG, searched) != searched:
        raise InputError(f"{shown(folder)} holds a search with other words: give another sweep.name, or take them back")
    if not names:
        study.set_user_attr(CONFIG, searched)
    return study


@contextmanager
def _claimed(study: Any, folder: Path, cfg: DictConfig) -> Iterator[Any]:
    """Yields a trial that no other worker has: one that was cut, else a new one, else none; and holds it meanwhile.

    A seed of the sampler is one for each trial, or else all workers and sittings would draw the same.
    """
    with ExitStack() as held:
        with claim(folder, "trials", "next", wait=True):
            trial = _cut_trial(study, folder, held)
            count = len(study.get_trials(deepcopy=False))
            if trial is None and count < cfg.search.trials:
                if (seed := cfg.search.sampler.get("seed")) is not None:
                    study.sampler = instantiate(cfg.search.sampler, _convert_="all", seed=seed + count)
                trial = study.ask()
                held.enter_context(claim(folder, "trials", trial.number))
        yield trial


def _cut_trial(study: Any, folder: Path, held: ExitStack) -> Any:
    from optuna.trial import Trial, TrialState

    for cut in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        with ExitStack() as own:
            if own.enter_context(claim(folder, "trials", cut.number)):
                held.push(own.pop_all())
                return Trial(study, cut._trial_id)
    return None


def trial_command(base: Sequence[str], drawn: Sequence[str], run: Path) -> list[str]:
    """Returns the words that start a trial or go on with it; what another trial left in its folder is put aside."""
    if has_checkpoint(run):
        if set(drawn) <= set(read_summary(run)["overrides"]):
            return [f"resume={run}"]
        put_aside(run)  # of a study whose journal is lost
    return start_words([*base, *drawn], run)


def _run_trial(
    study: Any,
    trial: Any,
    command: list[str],
    run: Path,
    timeout: float | None,
    environment: dict[str, str],
    is_second: bool,
) -> None:
    """Trains a trial and tells the study; one that was killed is left to go on with, but for its second time here."""
    from optuna.trial import TrialState

    reported = len(study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def hopeless() -> bool:
        nonlocal reported
        for epoch, miou in list(enumerate(_validation(run)))[reported:]:
            trial.report(miou, epoch)
            reported += 1
        return reported > 0 and trial.should_prune()

    status = job.run_job(command, run, timeout, environment, hopeless)
    if status == "finished":
        study.tell(trial, read_summary(run)["best_val_miou"])
    elif is_second or status not in job.NO_FAULT:
        study.tell(trial, state=TrialState.PRUNED if status == "pruned" else TrialState.FAIL)
    values = " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
    print(f"{shown(run)}  {status}  {values}", file=sys.stderr)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _validation(run: Path) -> list[float]:
    """Returns the validation mIoU of each epoch that was validated so far."""
    try:
        return [row["val/miou"] for row in read_history(run) if "val/miou" in row]
    except (OSError, InputError):  # not there yet, or with half a line
        return []


class Search:
    """Says before a search how far its study is, and after it which trials were the best."""

    def __init__(self, folder: Path, cfg: DictConfig) -> None:
        """Checks the space, and prints how many trials there are already."""
        self.folder, self.trials = folder, cfg.search.trials
        self.study = open_study(cfg, folder, base_words(cfg.hydra.overrides.task))
        check_space(cfg.search.space, self.study)
        print(f"{shown(folder)}: {self._counts() or 'no trial yet'}, of {self.trials}", file=sys.stderr)

    def finish(self) -> int:
        """Prints the trials, best first, with the tail of the log of those that failed; returns the exit status."""
        trials = self.study.get_trials(deepcopy=False)
        keys = list(dict.fromkeys(key for each in trials for key in each.params))
        table = Table("trial", "state", "best val mIoU", *(escape(key.rpartition(".")[2]) for key in keys))
        for trial in sorted(trials, key=lambda each: -1 if each.value is None else each.value, reverse=True):
            value = "" if trial.value is None else f"{trial.value:.4f}"
            params = [_short(trial.params.get(key, "")) for key in keys]
            table.add_row(str(trial.number), trial.state.name.lower(), value, *map(escape, params))
        Console(stderr=True).print(table, soft_wrap=True)
        failed = [each for each in trials if each.state.name == "FAIL"]
        for trial in failed:
            run = trial_folder(self.folder, trial.number)
            said = "".join(f"\n  | {line}" for line in job.tail(run))
            print(f"\n{shown(run)}: {read_summary(run).get('error', 'failed')}{said}", file=sys.stderr)
        ended = sum(each.state.is_finished() for each in trials)
        print(f"\n{self._counts()}, of {self.trials}" + ("" if ended >= self.trials else "; the same command goes on"))
        return 1 if failed or ended < self.trials else 0

    def _counts(self) -> str:
        states = Counter(each.state.name.lower() for each in self.study.get_trials(deepcopy=False))
        return ", ".join(f"{count} {state}" for state, count in states.items())
