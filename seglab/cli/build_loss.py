"""From the composed config to the loss and the weights of its classes."""

import difflib
import math
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from seglab.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from seglab.data import SegmentationDataModule


def class_weights(cfg: DictConfig, datamodule: "SegmentationDataModule") -> list[float] | None:
    """Returns one loss weight for each class, computed where the config names a rule.

    Raises:
        InputError: The rule or a class is unknown, a weight is no number of 0 or more, or a list has another length
            than the classes.
    """
    names = [str(name) for name in cfg.data.class_names]
    match OmegaConf.to_container(cfg.loss, resolve=True).get("class_weights"):
        case None:
            return None
        case "inverse_area":
            return datamodule.statistics.inverse_area_weights()
        case "median_frequency":
            return datamodule.statistics.median_frequency_weights()
        case "effective_number":
            return datamodule.statistics.effective_number_weights()
        case {"rule": "effective_number", "beta": beta, **others} if not others:
            return datamodule.statistics.effective_number_weights(beta)
        case dict(named):
            weights = weights_by_name(named, names)
        case list(weights) if len(weights) != len(names):
            raise InputError(
                f"loss.class_weights has {len(weights)} weights for {len(names)} classes: "
                f"give one for each of {', '.join(names)}"
            )
        case list(weights):
            pass
        case unknown:
            raise InputError(
                f"loss.class_weights={unknown} is unknown: give inverse_area, median_frequency, effective_number, "
                f"null, weights by class like {{{names[0]}: 2}}, or a list of {len(names)} weights"
            )
    if not all(isinstance(weight, int | float) and 0 <= weight < math.inf for weight in weights):
        raise InputError(f"loss.class_weights={weights}: give numbers of 0 or more")
    return [float(weight) for weight in weights]


def weights_by_name(weights: dict[Any, float], class_names: list[str]) -> list[float]:
    """Returns for each class the weight that stands by its name, else 1.

    Raises:
        InputError: A name is not that of a class.
    """
    named = {str(name): weight for name, weight in weights.items()}
    faults = []
    for name in named.keys() - class_names:
        near = difflib.get_close_matches(name, class_names, n=1, cutoff=0)[0]
        known = ", ".join(class_names)
        faults.append(f"loss.class_weights: {name} is no class: did you mean {near}? The classes are {known}")
    if faults:
        raise InputError("\n".join(sorted(faults)))
    return [named.get(name, 1.0) for name in class_names]


def build_loss(cfg: DictConfig, weights: list[float] | None) -> "nn.Module":
    """Builds the loss with one weight for each class, or with none.

    Raises:
        InputError: A term of the loss has weights of its own, of another number than the classes.
    """
    from seglab.task.losses.class_weighted import ClassWeighted

    loss = cfg.loss.copy()
    if weights is not None:
        loss.class_weights = weights  # which instantiate could not merge into weights by class name
    built = instantiate(loss, _convert_="all")
    for name, term in built.named_modules():
        own = term.class_weights if isinstance(term, ClassWeighted) else None
        if own is not None and len(own) != cfg.data.num_classes:
            raise InputError(
                f"loss.{name}.class_weights has {len(own)} weights for {cfg.data.num_classes} classes: give one for "
                f"each of {', '.join(cfg.data.class_names)}"
            )
    return built
