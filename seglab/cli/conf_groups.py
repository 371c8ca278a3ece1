"""The folder of configs, its groups and their choices."""

from pathlib import Path

CONF = Path(__file__).resolve().parents[2] / "conf"
BASE = "base"  # the file of a group that its choices begin with, no choice itself


def choices(group: str) -> list[str]:
    """Returns the choices of a group such as model/decoder by name, none where there is no such group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != BASE)


def all_choices() -> str:
    """Returns a line for each group and its choices, as the help shows them."""
    folders = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*") if path.is_dir())
    return "\n".join(f"  {group}: {', '.join(named)}" for group in folders if (named := choices(group)))
