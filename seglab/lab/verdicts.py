"""Differences to a baseline in words: better, worse, or not shown and what would show them."""

from collections.abc import Sequence
from dataclasses import dataclass

from seglab.lab.significance import LEVEL, Estimate, holm

BETTER, WORSE, UNDECIDED = "better", "worse", "no difference shown"


@dataclass(frozen=True)
class Difference:
    """What sets a group apart from the baseline, in the metric's own unit (1 = 100 points).

    Attributes:
        estimate: score of the group less that of the baseline.
        interval: 95 % interval, of this difference alone.
        p_value: of no difference, two-sided, of this difference alone.
        adjusted_p_value: by Holm over all differences to the baseline; it decides the verdict.
        verdict: `better`, `worse` or `no difference shown`.
        seeds_known: whether both have several seeds, or a spread shared by all; if not, a verdict is on the run of a
            single seed, not on its configuration.
        seeds_needed: seeds of each that would show a difference of that size; none if shown, unknown or too many.
        images_needed: images that would show it with the same runs; none if shown, unknown or too many.
        remedy: the same in words; empty where a difference was shown.
    """

    estimate: float
    interval: tuple[float, float]
    p_value: float
    adjusted_p_value: float
    verdict: str
    seeds_known: bool
    seeds_needed: int | None
    images_needed: int | None
    remedy: str


def judged(estimates: Sequence[Estimate]) -> list[Difference]:
    """Returns differences to one baseline with their verdicts."""
    adjusted = holm([estimate.p_value for estimate in estimates])
    differences = []
    for found, p_value in zip(estimates, adjusted, strict=True):
        verdict = UNDECIDED if p_value >= LEVEL else BETTER if found.center > 0 else WORSE
        known = len(found.seeds) == (1 if found.paired else 2)
        seeds = images = None
        if verdict == UNDECIDED:  # at the level of the strictest of Holm's steps
            seeds = found.seeds_needed(LEVEL / len(estimates)) if known else None
            images = found.images_needed(LEVEL / len(estimates)) if known or not found.seeds else None
        differences.append(
            Difference(
                estimate=found.value,
                interval=found.interval(),
                p_value=found.p_value,
                adjusted_p_value=p_value,
                verdict=verdict,
                seeds_known=known,
                seeds_needed=seeds,
                images_needed=images,
                remedy=remedy(found, known, seeds, images) if verdict == UNDECIDED else "",
            )
        )
    return differences


def remedy(found: Estimate, known: bool, seeds: int | None, images: int | None) -> str:
    """Returns in words how much would show a difference of the size found, 80 times in 100."""
    if not found.standard_error or not found.center:
        return "both score the same"
    if not known and found.seeds:
        return "how many seeds would show it, the one seed of one of the two does not tell"
    if not known:
        takes = f"takes {rounded_up(images)} images" if images else "is shown by no number of images"
        return f"as large a difference between these very runs {takes}; how many seeds, one seed does not tell"
    by_seeds = f"{seeds} seeds of each on these images" if seeds else ""
    by_images = f"{rounded_up(images)} images with these seeds" if images else ""
    if by_seeds and by_images:
        return f"as large a difference takes {by_seeds}, or {by_images}"
    if not by_seeds and not by_images:
        return "no number of seeds alone, nor of images alone, shows as large a difference"
    other = "images" if by_seeds else "seeds"
    return f"as large a difference takes {by_seeds or by_images}; no number of {other} alone shows it"


def rounded_up(number: int) -> int:
    """Returns a number with two digits that count."""
    unit = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // unit) * unit
