"""What a reader must know of a comparison's figures, a sentence each."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seglab.errors import InputError
from seglab.lab.comparable import Scored, first_few
from seglab.lab.groups import Group, common_runs, first_of_each_seed
from seglab.lab.runs import MANY_IMAGES_OF_A_CLASS
from seglab.lab.significance import LEVEL, SharedSpread

if TYPE_CHECKING:
    from seglab.lab.comparison import Row

MANY_IMAGES = 30
MANY_CONFIGURATIONS = 4


def notes_on_left_out(reasons: dict[Path, str]) -> list[str]:
    """Returns a sentence for each reason that runs are left out for.

    Args:
        reasons: of each run's folder.
    """
    folders: dict[str, list[Path]] = {}
    for folder, reason in reasons.items():
        folders.setdefault(reason, []).append(folder)
    return [
        f"{', '.join(first_few(names))} {'is' if len(names) == 1 else 'are'} left out: {reason}."
        for reason, names in folders.items()
    ]


def notes_on_runs(groups: Sequence[Group]) -> list[str]:
    """Returns a sentence on each thing that sets runs apart beside their configs.

    Raises:
        InputError: Runs of one config were trained on other data.
    """
    notes = []
    for group in groups:
        prints = {run.summary.get("data_fingerprint"): run.folder for run in reversed(group.runs)}
        prints.pop(None, None)
        if len(prints) > 1:
            other, one = list(prints.values())[-2:]
            raise InputError(
                f"{one} and {other} have one config and other data (data_fingerprint in summary.json): leave one out"
            )
        if repeats := [run for run in group.runs if run not in first_of_each_seed(group.runs)]:
            folders = ", ".join(first_few([run.place for run in repeats]))
            notes.append(f"{group.label}: left out {folders}, with the config and seed of an earlier run.")
    made_of = {"data_fingerprint": "data", "git_commit": "versions of the code", "precision": "precisions"}
    for key, what in made_of.items():
        count = len({run.summary.get(key) for group in groups for run in group.runs} - {None})
        if count > 1:
            notes.append(f"The runs were made with {count} different {what} ({key} in summary.json).")
    splits = [run.config.get("data", {}).get("splits") or {} for group in groups for run in group.runs]
    if any(isinstance(names.get("val"), str) and names["val"] == names.get("test") for names in splits):
        notes.append("The test split is the val split (data.splits), by which the best epoch was chosen: it flatters.")
    return notes


def notes_on_common_runs(groups: Sequence[Group], base: int) -> list[str]:
    """Returns a sentence for each group that shares with the baseline some of its runs but not all."""
    notes = []
    for group in groups:
        common, total = len(common_runs(group, groups[base])), max(len(group.runs), len(groups[base].runs))
        if 0 < common < total:
            notes.append(
                f"{group.label}: its difference to {groups[base].label} is that of the {common} of {total} runs that "
                "were scored in both ways."
            )
    return notes


def notes_on_images(scored: Scored, metric: str) -> list[str]:
    """Returns a sentence on each thing about the images that limits what a metric says."""
    notes = []
    if scored.split == "val":
        notes.append("The best epoch was chosen on val, which flatters every run: decide by the test split.")
    if scored.split == "train":
        notes.append("The networks were trained on the images of train: this compares how well they fit them.")
    if len(scored.names) < MANY_IMAGES:
        notes.append(f"{len(scored.names)} images are few: intervals of so few are too narrow.")
    if metric == "pixel_accuracy":
        return notes
    of_class = metric.partition("/")[2]
    counts = {name: count for name, count in scored.images_with.items() if of_class in ("", name)}
    if absent := [name for name, count in counts.items() if not count]:
        notes.append(
            f"No image is labelled {' or '.join(absent)}: a run that predicts it anywhere has an IoU of 0 for it, "
            "and a run that does not leaves it out of the mean."
        )
    few = [f"{name} ({count})" for name, count in counts.items() if 0 < count < MANY_IMAGES_OF_A_CLASS]
    if few and len(scored.names) >= MANY_IMAGES:
        notes.append(f"Few images have {', '.join(few)}: chance decides more about such a class than about the others.")
    return notes


def notes_on_figures(rows: Sequence["Row"], lost: float, shared: SharedSpread | None) -> list[str]:
    """Returns a sentence on each thing that limits what scores, intervals and verdicts say."""
    notes = notes_on_spread(rows, shared) if shared else []
    single = [row.group.label for row in rows if len(row.runs) == 1 and not shared]
    if single and len(single) == len(rows):
        who = "every configuration" if len(rows) > 1 else single[0]
        notes.append(
            f"One seed of {who}: intervals and verdicts hold for these very runs, over images; "
            "what another seed would give is not known."
        )
    elif single:
        notes.append(
            f"One seed of {'; '.join(single)}: how far its seeds lie apart is not known and is in no interval; "
            "those of the others are."
        )
    if not shared and len(rows) >= MANY_CONFIGURATIONS and max(len(row.runs) for row in rows) == 2:
        notes.append(
            "How far two seeds lie apart says little of how far seeds do, which makes intervals long: if the seeds of "
            "all configurations spread alike, --pool-seeds knows it better."
        )
    if lost:
        notes.append(f"{lost:.1%} of the resamples hold no pixel of this metric and were left out.")
    if sum(row.difference is not None for row in rows) > 1:
        notes.append(
            "Verdicts and p values are Holm's over all differences to the baseline; each interval stands for itself, "
            "so one may leave out 0 where no difference is shown."
        )
    return notes


def notes_on_spread(rows: Sequence["Row"], shared: SharedSpread) -> list[str]:
    """Returns what was taken for the spread over seeds of all configurations, and whether theirs speak against it."""
    own = sorted(100 * row.seed_std for row in rows if row.seed_std is not None)
    notes = [
        f"The seeds of all configurations are taken to spread alike, by {100 * shared.total**0.5:.2f} points "
        f"({shared.df} degrees of freedom); their own are {own[0]:.2f} to {own[-1]:.2f}."
    ]
    if any(row.difference is not None and not row.difference.seeds_known for row in rows):
        notes.append("The difference between two evaluations of one run is of that very run: no spread is in it.")
    if shared.p_value < LEVEL:
        notes.append(
            f"The seeds of {rows[shared.widest].group.label} lie further apart than chance allows if all spread alike "
            f"(p = {shared.p_value:.3f}): leave out that configuration or --pool-seeds."
        )
    return notes
