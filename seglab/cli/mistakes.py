"""Says a user's mistake in a line, without a stack trace, and offers the nearest valid name."""

import difflib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seglab.cli.command_line import did_you_mean, quoted
from seglab.cli.conf_groups import BASE, CONF, choices
from seglab.errors import InputError
from seglab.lab.result_config import flat
from seglab.numeric import is_number

EXIT_STATUS = 2
_DERIVED = ("data.class_names", "data.num_classes")
_CLASS_NAME = re.compile(r"[{,]\s*((?:\\.|[^\\{}\[\],:])+?)\s*:")  # in a table; Hydra takes no quotes there
_OPTIONS = tuple(  # Hydra's own
    "--help --hydra-help --version --cfg --resolve --package --run --multirun --shell-completion --config-path "
    "--config-name --config-dir --experimental-rerun --info".split()
)


@contextmanager
def told_in_a_line(config_name: str) -> Iterator[None]:
    """Ends the program with status 2 and one clear message where the user gave something wrong.

    Args:
        config_name: The config whose keys are offered for a mistyped one.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except InputError as error:
        message = str(error)
    except (HydraException, OmegaConfBaseException) as error:
        message = explain(error, config_name)
    else:
        return
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(EXIT_STATUS)


def explain(error: BaseException, config_name: str) -> str:
    """Returns one line for an error of Hydra or OmegaConf, with the nearest valid names for a mistyped one."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, InputError):
            return str(link)
    text = "\n".join(str(link) for link in chain)
    if match := re.search(r"Could not find '([^']+)'", text):
        group, _, option = match[1].rpartition("/")
        if not (options := choices(group)):
            return f"{group}={option} is not known here: look at its spelling, and install the package that has it"
        return f"{group}={option} is not known: {_nearest(option, options)}the choices are {', '.join(options)}"
    if isinstance(error, OverrideParseException):
        return unreadable(error.override)
    if match := re.search(r"Could not override '([^'@]+)", text):
        key = match[1].strip().lstrip("+~")
        if (CONF / key).is_dir():
            return f"no {key} is chosen by the other groups: +{key}=CHOICE adds one of {', '.join(choices(key))}"
        return f"the config has no key {key}: {hint(key, config_name)}`python {config_name}.py --cfg job` lists all"
    if match := re.search(r"Ambiguous value for argument '([^=]+)=([^']*)'", text):
        return _several(match[1], match[2], config_name)
    if match := re.search(r"Error merging override (\S+?)=", text):
        return f"{match[1]}: is of another kind in the config, which `python {config_name}.py --cfg job` shows"
    if match := re.search(r"Missing mandatory value: (\S+)", text):
        return f"{match[1]} is not given: add {match[1]}=VALUE to the command"
    if match := re.search(r"Error (?:in call to|instantiating|locating) (?:target )?'([^']+)'", text):
        full_key = re.search(r"full_key: (\S+)", text)
        key = full_key[1] if full_key else match[1]
        if wrong := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(chain[-1])):
            group = key.partition(".")[0]
            return f"{key}: {wrong[1]} takes no key {wrong[2]}; leave it out, or choose the {group}= that has it"
        return f"{key}: {_last_line(chain[-1])}"
    return _last_line(error)


def unreadable(word: str) -> str:
    """Returns what to do about a word that Hydra cannot read."""
    key, equals, value = word.partition("=")
    if not equals:
        return f"{word}: is no KEY=VALUE"
    if value.startswith("~"):
        return f"{word}: ~ is read at the start of a word alone: write '{key}={quoted(os.path.expanduser(value))}'"
    if value[:1] in ("[", "{", "'", '"') or value.endswith(","):
        return f"{word}: close every bracket and quote, in quotes of the shell, and end with no comma: '{key}=[a,b]'"
    return f"{word}: the value has signs that need quotes, two pairs of them: '{key}={quoted(value)}'"


def refuse_words(words: Sequence[str], config_name: str = "evaluate") -> None:
    """Refuses what Hydra takes amiss.

    That is keys with dashes, run folders without a key, keys that follow from others, classes named twice, and groups
    set to no choice: null, which Hydra can only take in a file, or what the choices of a group share.

    Args:
        words: The command line.
        config_name: The config whose keys are offered for a mistyped one.

    Raises:
        InputError: Naming the word and what to write.
    """
    for word in words:
        if word.startswith("--") and word.partition("=")[0] not in _OPTIONS:
            raise InputError(f"{word} is no option: keys have no dashes{_undashed(word.lstrip('-'), config_name)}")
        if os.path.isdir(os.path.join(word, ".hydra")):  # a Path of a long word is an error
            raise InputError(f"{word} is a run folder: write {'run' if config_name == 'evaluate' else 'resume'}={word}")
        group, _, value = word.lstrip("+").partition("=")
        if group in _DERIVED:
            raise InputError(f"{group} follows from data.classes: leave it out, or give data.classes")
        names = _CLASS_NAME.findall(value) if group == "data.classes" else []
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"data.classes: {twice[0]} stands twice in {value}; give each class its own name")
        given = {"null", BASE}.intersection(value.split(","))
        if given and (CONF / group).is_dir():
            raise InputError(
                f"{word}: {min(given)} is no choice of {group}: leave it out, or give {', '.join(choices(group))}"
            )


def _undashed(word: str, config_name: str) -> str:
    """What to write for a word without its dashes, or which key was perhaps meant by it."""
    key, equals, _ = word.partition("=")
    keys = _keys(config_name, _chosen(config_name))
    near = "" if key in keys else _nearest(key, keys)
    return f"{f'; {near}' if near else f', {word}; ' if equals else f', {key}=VALUE; '}`--help` lists the options"


def _several(key: str, values: str, config_name: str) -> str:
    """What to do about several values for a key: one of them, or a list where it may take one, or a run with each."""
    default = flat(OmegaConf.to_container(_composed(config_name, _chosen(config_name)))).get(key)
    takes_one = isinstance(default, str | int | float) and not str(default).startswith(("?", "$"))
    way = f"give a list, '{key}=[{values}]'"
    if takes_one or (CONF / key).is_dir():
        way = f"give one {'number' if is_number(default) else 'value'}"
    runs = ", or add -m for a run with each" if Path(sys.argv[0]).name == "train.py" else ""
    return f"{key}={values} is several values: {way}{runs}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines) if lines else type(error).__name__


def _nearest(name: str, valid: list[str]) -> str:
    if hint := did_you_mean(name, valid, count=3):
        return hint
    ends = {key: key.rpartition(".")[2] for key in valid}  # lr and epochs mean optimizer.lr and trainer.max_epochs
    known = difflib.get_close_matches(name, set(ends.values()), n=1, cutoff=0.7)
    near = [key for key, end in ends.items() if end in known][:3]
    return f"did you mean {' or '.join(near)}? " if near else ""


def hint(key: str, config_name: str) -> str:
    """Returns what may have been meant by a key that the config does not have: of the choices given, or of others."""
    words = _chosen(config_name)
    keys = _keys(config_name, words)
    group, _, rest = key.partition(".")
    if config_name == "train" and rest and (CONF / group).is_dir():
        others = [word for word in words if not word.startswith(f"{group}=")]
        having = [choice for choice in choices(group) if key in _keys(config_name, [*others, f"{group}={choice}"])]
        if having:
            return f"{group}={', '.join(having)} {'have' if len(having) > 1 else 'has'} it; "
    parent = key.rpartition(".")[0]
    siblings = sorted({name for name in keys if name.rpartition(".")[0] == parent})
    return _nearest(key, keys) or (f"{parent or 'it'} has {', '.join(siblings)}; " if siblings else "")


def _chosen(config_name: str) -> list[str]:
    """Returns the choices of groups that the command line gives."""
    given = [word for word in sys.argv[1:] if "=" in word and "," not in word] if config_name == "train" else []
    return [word for word in given if (CONF / word.partition("=")[0]).is_dir()]


def _composed(config_name: str, choices: Sequence[str]) -> DictConfig:
    """Returns a config; an empty one where it cannot be composed."""
    in_hydra = GlobalHydra.instance().is_initialized()
    try:
        with nullcontext() if in_hydra else initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(config_name, list(choices))
    except HydraException:
        return OmegaConf.create()


def _keys(config_name: str, choices: Sequence[str]) -> list[str]:
    """Returns the dotted keys of a config and the names of its groups."""

    def walk(node: DictConfig, prefix: str) -> Iterator[str]:
        for name in node:
            yield prefix + str(name)
            child = OmegaConf.to_container(node)[name]
            if isinstance(child, dict):
                yield from walk(OmegaConf.create(child), f"{prefix}{name}.")

    groups = [path.name for path in CONF.iterdir() if path.is_dir()] if config_name == "train" else []
    return sorted({*walk(_composed(config_name, choices), ""), *groups}.difference(_DERIVED))
