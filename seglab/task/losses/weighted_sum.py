"""A sum of losses, each with a weight."""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from seglab.task.losses.class_weighted import ClassWeighted


class WeightedSum(nn.Module):
    """The sum of losses times their weights.

    Args:
        terms: Losses by name.
        weights: The weight of each, 0 or more, by the same names.
        class_weights: One weight of 0 or more for each class, for every term in place of its own; none leaves them.

    Raises:
        ValueError: A term has no weight or a weight no term, or a weight is negative, infinite or no number.
    """

    def __init__(
        self,
        terms: Mapping[str, ClassWeighted],
        weights: Mapping[str, float],
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if terms.keys() != weights.keys():
            raise ValueError(f"weights of {', '.join(weights)} for terms {', '.join(terms)}: give one for each term")
        for name, weight in weights.items():
            if not (isinstance(weight, int | float) and 0 <= weight < math.inf):
                raise ValueError(f"weights.{name}={weight}: give a number of 0 or more")
        self.terms = nn.ModuleDict(terms)
        self.weights = dict(weights)
        if class_weights is not None:
            for term in terms.values():
                term.set_class_weights(class_weights)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss of logits (b, num_classes, h, w) and mask int64 (b, h, w); 0 if nothing is scored."""
        return sum(self.weights[name] * term(logits, mask) for name, term in self.terms.items())
