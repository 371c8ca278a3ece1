"""The all-MLP decoder of SegFormer."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from seglab.models.batch_norm import quick_batch_norm
from seglab.models.blocks import scale_widths
from seglab.models.pyramid import pyramid_start, resize


class SegFormerDecoder(nn.Module):
    """Projects every feature to one width and fuses them pixel by pixel (Xie et al. 2021, arXiv:2105.15203).

    The paper enlarges the projections, stacks them and fuses the stack by a 1x1 convolution. Its parts, one for each
    feature, commute with the bilinear enlargement; here they come before it, which is the same function at a fraction
    of the cost.

    Args:
        channels: Channels of the encoder's features, shallow to deep.
        strides: Strides of the encoder's features.
        mlp_width: Channels of the projections and of the output; 768 in the paper's large networks.
        width: Multiplier of the width.
        norm_layer: Makes the norm after the fusion; none if None.

    Raises:
        ValueError: If there are not two features of stride 4 or more.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        mlp_width: int = 256,
        width: float = 1.0,
        norm_layer: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.start = pyramid_start(strides)
        (self.out_channels,) = scale_widths([mlp_width], width)
        self.projections = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(feature_channels, self.out_channels, 1),
                nn.Conv2d(self.out_channels, self.out_channels, 1, bias=False),
            )
            for feature_channels in channels[self.start :]
        )
        self.norm = nn.Identity() if norm_layer is None else quick_batch_norm(norm_layer(self.out_channels))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps the encoder's features to (b, out_channels, h, w) at the first taken feature's resolution."""
        taken = features[self.start :]
        fused = sum(
            resize(project(feature), taken[0]) for project, feature in zip(self.projections, taken, strict=True)
        )
        return self.activation(self.norm(fused))
