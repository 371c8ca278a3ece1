"""An encoder on any backbone of timm, with random or pretrained weights.

timm takes seconds to import, which only its users pay: it is imported where it is called.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seglab.errors import InputError
from seglab.models.timm_weights import first_line, load_backbone, read_weights
from seglab.numeric import is_whole

HUB = "hub"


class TimmEncoder(nn.Module):
    """A backbone of timm (github.com/huggingface/pytorch-image-models), behind the image itself.

    The features are the image and the output of every stage of the backbone. Of a plain vision transformer, whose
    blocks all have one resolution, they are the image and four evenly spaced blocks through a `FeaturePyramid`.

    Args:
        name: Name of the model in timm, with or without the tag of its weights.
        weights: None for random weights, `hub` for timm's own from its hub, or the path of a state dict (of torch or
            safetensors) of the same model, or of a checkpoint of seglab with the same encoder.
        mean: Mean of each image channel that the weights expect, in [0, 1]; if None, what timm or the checkpoint of
            seglab says of them.
        std: Standard deviation of each image channel that the weights expect, as `mean`.
        freeze_norm: Whether each BatchNorm of the backbone keeps its running statistics, scale and shift.
        frozen_stages: How many stages of the backbone, as timm groups its layers, keep their weights and statistics,
            and need no backward pass; the stem is the first, and each block of a plain vision transformer is one.
            None for none.
        **options: Passed on to `timm.create_model`, such as `patch_size`, `drop_path_rate` and `output_stride`.

    Attributes:
        backbone: The model of timm without its classifier.
        mean: Mean of each image channel that the weights expect, in [0, 1]; None for any.
        std: Standard deviation of each image channel that the weights expect; None for any.

    Raises:
        InputError: The name is unknown, the model does not map images of any size to features of the declared sizes,
            the weights cannot be fetched, cannot be read, or are of another model, or there are not so many stages
            or no BatchNorm to freeze.
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        freeze_norm: bool = False,
        frozen_stages: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        refuse_unknown_name(name)
        from timm.layers import freeze_batch_norm_2d

        from seglab.models.timm_layers import quick_depthwise

        backbone = _create(name, weights == HUB, options)
        channels, strides = ([stage[key] for stage in backbone.feature_info] for key in ("num_chs", "reduction"))
        is_plain = len(set(strides)) == 1
        stages = [part * len(strides) // 4 - 1 for part in (1, 2, 3, 4)] if is_plain else list(range(len(strides)))
        from_file = weights not in (None, HUB)
        state, expected = read_weights(weights, backbone) if from_file else ({}, backbone.pretrained_cfg)
        with_classifier = backbone.state_dict().keys()
        self._stages = backbone.prune_intermediate_layers(stages, prune_norm=True)
        if from_file:
            load_backbone(backbone, state, with_classifier, weights)
        quick_depthwise(backbone)
        self.mean = mean or (expected["mean"] if weights else None)
        self.std = std or (expected["std"] if weights else None)
        if freeze_norm and not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()):
            raise InputError(f"model.encoder.freeze_norm=true: {name} has no BatchNorm to freeze; leave it out")
        self.backbone = freeze_batch_norm_2d(backbone) if freeze_norm else backbone
        self.pyramid: nn.Module = nn.Identity()
        if is_plain:
            self.pyramid = FeaturePyramid(channels[0], strides[0])
            channels, strides = self.pyramid.channels, self.pyramid.strides
        self.channels, self.strides = [3, *channels], [1, *strides]
        self._frozen_parameters, self._frozen_modules = self._names_of_stages(frozen_stages)
        self._refuse_other_sizes(name)

    def _names_of_stages(self, count: int | None) -> tuple[list[str], list[str]]:
        """Returns the parameters of the first stages, and the modules that have no others."""
        if count is None:
            return [], []
        stage_of = self.depths(coarse=True)
        total = max(stage_of.values()) + 1
        if not (is_whole(count) and 1 <= count <= total):
            raise InputError(f"model.encoder.frozen_stages={count}: give 1, the stem, to {total}, the whole backbone")
        parameters = [name for name, stage in stage_of.items() if stage < count]
        modules = []
        for name, _ in self.backbone.named_modules():
            inside = [stage for key, stage in stage_of.items() if key.startswith(f"{name}.")]
            if inside and max(inside) < count:
                modules.append(name)
        return parameters, modules

    def _refuse_other_sizes(self, name: str) -> None:
        height, width = 2 * max(self.strides), 3 * max(self.strides)
        declared = [(1, c, height // s, width // s) for c, s in zip(self.channels, self.strides, strict=True)]
        self.eval()
        try:
            with torch.no_grad():
                features = self(torch.zeros(1, 3, height, width))
        except Exception:  # each model refuses in its own way
            features = []
        if [tuple(feature.shape) for feature in features] != declared:
            raise InputError(
                f"model.encoder.name={name} takes no images of any size, or its features are not of the size that timm "
                "declares: choose another model"
            )
        self.train()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (b, 3, h, w), h and w multiples of the largest stride, to the features from shallow to deep."""
        features = self.backbone.forward_intermediates(
            image, indices=self._stages, output_fmt="NCHW", intermediates_only=True
        )
        return [image, *self.pyramid(features)]

    def train(self, mode: bool = True) -> "TimmEncoder":
        """Sets the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    def train_backbone(self, mode: bool = True) -> None:
        """Lets the backbone train, all but its frozen stages, or freezes all of it, in evaluation mode."""
        self.backbone.requires_grad_(mode).train(mode)
        self._freeze_stages()

    def _freeze_stages(self) -> None:
        for name in self._frozen_parameters:  # by name, since parts may be replaced, as by SyncBatchNorm
            self.backbone.get_parameter(name).requires_grad_(False)
        for name in self._frozen_modules:
            self.backbone.get_submodule(name).eval()

    def depths(self, coarse: bool = False) -> dict[str, int]:
        """Returns the depth of each parameter of the backbone by its name, from 0 for the stem.

        Args:
            coarse: Whether to count stages rather than layers.

        Raises:
            InputError: timm does not know the layers of this model.
        """
        from timm.models import group_parameters

        if not hasattr(self.backbone, "group_matcher"):
            raise InputError(
                f"timm does not know the layers of {type(self.backbone).__name__}: "
                "leave layer_decay at 1 and frozen_stages at null"
            )
        return group_parameters(self.backbone, self.backbone.group_matcher(coarse=coarse), reverse=True)


class FeaturePyramid(nn.Module):
    """Brings four features of one stride, 16 for most transformers, to strides 4, 8, 16 and 32.

    Four blocks as in BEiT (Bao et al. 2021, arXiv:2106.08254); each doubling of the resolution halves the width, as in
    ViTDet (Li et al. 2022, arXiv:2203.16527).

    Args:
        width: Channels of the features.
        stride: Stride of the features.

    Raises:
        InputError: The stride is no multiple of 4.
    """

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        if stride % 4:
            raise InputError(f"patches of {stride} pixels cannot be halved twice: add +model.encoder.patch_size=16")
        self.channels = [width // 4, width // 2, width, width]
        self.strides = [stride // 4, stride // 2, stride, 2 * stride]
        fourfold = nn.Sequential(
            nn.ConvTranspose2d(width, width // 2, 2, 2),
            nn.BatchNorm2d(width // 2),
            nn.GELU(),
            nn.ConvTranspose2d(width // 2, width // 4, 2, 2),
        )
        twofold = nn.ConvTranspose2d(width, width // 2, 2, 2)
        self.levels = nn.ModuleList([fourfold, twofold, nn.Identity(), nn.MaxPool2d(2)])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps four features (b, width, h, w) to four whose sides are 4, 2, 1 and 1/2 times as long."""
        return [level(feature) for level, feature in zip(self.levels, features, strict=True)]


def refuse_unknown_name(name: str) -> None:
    """Checks the name of a model of timm.

    Raises:
        InputError: timm has no such model; the message has the nearest names.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3, cutoff=0)
        raise InputError(f"model.encoder.name={name} is no model of timm: did you mean {' or '.join(near)}?")


def _create(name: str, from_hub: bool, options: Mapping[str, Any]) -> nn.Module:
    """Returns a model of timm that takes images of any size, if it can."""
    import timm

    try:
        if timm.get_pretrained_cfg(name).fixed_input_size:
            try:
                return timm.create_model(name, pretrained=from_hub, dynamic_img_size=True, **options)
            except TypeError:  # there is no such option for this model
                pass
        return timm.create_model(name, pretrained=from_hub, **options)
    except Exception as error:  # the hub's client raises many kinds
        if not from_hub or isinstance(error, TypeError):  # an argument that there is not
            raise
        raise InputError(
            f"the weights of {name} cannot be fetched from timm's hub ({first_line(error)}): "
            "give a file of them with model.encoder.weights=PATH"
        ) from None
