"""How the pretrained part of a network trains: later, slower, or by its depth."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from seglab.numeric import is_number, is_whole

_BACKBONE = "encoder.backbone."


@dataclass(frozen=True)
class FineTuning:
    """Learning rates and freezing of `model.encoder.backbone`; as it stands, it changes nothing.

    Args:
        frozen_epochs: Epochs for which the backbone stays as it is, in evaluation mode, while the rest trains.
        lr_factor: Multiplies the backbone's learning rate.
        layer_decay: Multiplies the learning rate of each layer once for every layer up to the decoder, so that the
            stem's is the smallest (ELECTRA, Clark et al. 2020, arXiv:2003.10555; BEiT, Bao et al. 2021,
            arXiv:2106.08254).
        decay_norms: Whether weight decay falls on norms and biases too, all over the network, and on what timm keeps it
            from in a backbone: position embeddings, class tokens and the like.

    Raises:
        ValueError: If `frozen_epochs` is no number of epochs, or a factor is not above 0 or `layer_decay` above 1.
    """

    frozen_epochs: int = 0
    lr_factor: float = 1.0
    layer_decay: float = 1.0
    decay_norms: bool = True

    def __post_init__(self) -> None:
        if not (is_whole(self.frozen_epochs) and self.frozen_epochs >= 0):
            raise ValueError(f"frozen_epochs={self.frozen_epochs}: give a whole number of epochs, 0 or more")
        if not (is_number(self.lr_factor) and 0 < self.lr_factor < math.inf):
            raise ValueError(f"lr_factor={self.lr_factor}: give a factor above 0, or freeze with frozen_epochs")
        if not (is_number(self.layer_decay) and 0 < self.layer_decay <= 1):
            raise ValueError(f"layer_decay={self.layer_decay}: give a factor above 0 and up to 1")

    def build_optimizer(self, optimizer: Callable[[Iterable[Any]], Optimizer], model: nn.Module) -> Optimizer:
        """Returns the optimizer of a network; its first group has the decoder and the optimizer's own learning rate.

        Args:
            optimizer: Builds the optimizer from parameters or groups of them.
            model: The network; `encoder` has a `backbone` and `depths()` where its learning rate differs.
        """
        if (self.lr_factor, self.layer_decay, self.decay_norms) == (1, 1, True):
            return optimizer(model.parameters())
        built = optimizer(self._groups(model))
        for group in built.param_groups:
            group["lr"] *= group["lr_factor"]
        return built

    def _groups(self, model: nn.Module) -> list[dict[str, Any]]:
        depths = {} if self.layer_decay == 1 else model.encoder.depths()
        last = max(depths.values(), default=0)
        named = () if self.decay_norms else getattr(model.encoder.backbone, "no_weight_decay", tuple)()
        undecayed = {f"{_BACKBONE}{name}" for name in named}
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): []}
        for name, parameter in model.named_parameters():
            factor = 1.0
            if name.startswith(_BACKBONE):
                above = last + 1 - depths.get(name.removeprefix(_BACKBONE), last)
                factor = self.lr_factor * self.layer_decay**above
            decays = self.decay_norms or (parameter.ndim > 1 and name not in undecayed)
            groups.setdefault((factor, decays), []).append(parameter)
        return [
            {"params": parameters, "lr_factor": factor} | ({} if decays else {"weight_decay": 0.0})
            for (factor, decays), parameters in groups.items()
        ]

    def freeze(self, model: nn.Module, epoch: int) -> None:
        """Brings the backbone to the state that it has in an epoch, the first being 0."""
        if self.frozen_epochs:
            model.encoder.train_backbone(epoch >= self.frozen_epochs)
