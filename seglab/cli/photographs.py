"""The photographs that a command line names, and what to call each."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from seglab.errors import InputError


def find_photographs(paths: Sequence[Path]) -> tuple[list[tuple[Path, Path]], list[Path], list[str]]:
    """Returns each photograph and its place below the folder that was named, folders with all that they hold.

    And the folders' files of other suffixes, and what is wrong with folders that cannot be read. Hidden files and
    folders count only where they are named.

    Raises:
        InputError: A path does not exist.
    """
    from seglab.data.files import SUFFIXES, files_below

    photographs, others, faults = [], [], []
    for path in paths:
        if path.is_dir():
            for place in files_below(path, faults):
                if place.suffix.lower() in SUFFIXES:
                    photographs.append((path / place, place))
                else:
                    others.append(path / place)
        elif path.exists():
            photographs.append((path, Path(path.name)))
        else:
            raise InputError(f"{path} does not exist: give a run folder, a photograph or a folder of photographs")
    return photographs, others, faults


def lies_in(path: Path, places: Sequence[Path]) -> bool:
    """Returns whether a file is one of some resolved paths, or below one."""
    return any(map(path.resolve().is_relative_to, places))


def counted(others: Iterable[Path]) -> str:
    """Returns a line on the files of other suffixes than a photograph's, and nothing where there are none."""
    counts = Counter(path.suffix.lower() or "without" for path in others)
    if not counts:
        return ""
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(5))
    more = ", ..." if len(counts) > 5 else ""
    return f"left out for their suffix: {counts.total()} ({kinds}{more}); save photographs among them as JPEG or PNG"


def named(photographs: Iterable[tuple[Path, Path]]) -> Iterator[tuple[str, Path]]:
    """Yields a name for each photograph: its place without the suffix, with it where two would be called the same."""
    taken: set[str] = set()
    for path, place in photographs:
        names = (str(place.with_suffix("")), str(place), *(f"{place}-{number}" for number in range(2, 10_000)))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        yield name, path
