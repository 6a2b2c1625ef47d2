"""The appearance network: a light backbone, pooling, an optional linear layer and a BNNeck."""

import re
from collections.abc import Callable, Iterable, Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import Conv2dNormActivation

from reid_tracker.errors import UserError


class EmbeddingNetwork(nn.Module):
    """Image crops to appearance vectors.

    backbone -> pooling -> linear (optional) -> f_t -> batch norm with its bias frozen at zero (BNNeck) -> f_i.
    The triplet loss shapes f_t, a classifier shapes f_i, and retrieval compares f_i by cosine (Luo et al. 2019,
    "Bag of Tricks").

    Parameters
    ----------
    backbone : str
        One of `BACKBONES`.
    dimension : int or None
        Length of the embedding; None keeps the backbone's own width and has no linear layer.
    pooling : {"gem", "average"}
        Generalised mean with a learned exponent (Radenović et al. 2018), or the plain mean.
    last_stride : {1, 2}
        1 keeps the last stage at twice the resolution: more accurate, slower.
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        dimension: int | None = 256,
        pooling: str = "gem",
        last_stride: int = 2,
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise UserError(
                f"backbone {backbone!r} is not known; choose one of {', '.join(BACKBONES)}, or register_backbone it."
            )
        if pooling not in POOLINGS:
            raise UserError(f"pooling {pooling!r} is not known; choose one of {', '.join(POOLINGS)}.")
        if last_stride not in (1, 2):
            raise UserError(f"last_stride {last_stride!r} is not possible; choose 1 or 2.")
        if dimension is not None and dimension < 1:
            raise UserError(f"dimension {dimension!r} is not possible; give the embedding's length, 1 or more.")
        self.settings = {
            "backbone": backbone,
            "dimension": dimension,
            "pooling": pooling,
            "last_stride": last_stride,
        }
        build, width = BACKBONES[backbone]
        self.backbone = build()
        if last_stride == 1:
            _undo_last_stride(self.backbone)
        self.pooling = POOLINGS[pooling]()
        self.linear = nn.Linear(width, dimension, bias=False) if dimension else nn.Identity()
        self.dimension = dimension or width
        self.neck = nn.BatchNorm1d(self.dimension)
        self.neck.bias.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Embed a batch.

        Parameters
        ----------
        images : Tensor, float [N, 3, H, W]
            Normalised crops, channels in BGR order.

        Returns
        -------
        Tensor [N, D], or a pair of them
            Evaluation mode: f_i as unit rows. Training mode: (f_t for the triplet loss, f_i for the classifier).
        """
        features = self.backbone(images)
        # The head is no work, but the triplet loss sees its digits: autocast ends here.
        with torch.autocast(images.device.type, enabled=False):
            pooled = self.linear(self.pooling(features))
            necked = self.neck(pooled)
        return (pooled, necked) if self.training else functional.normalize(necked.float())


class GeneralisedMean(nn.Module):
    """GeM pooling, (mean of x^p)^(1/p) over the picture: p = 1 is the mean, p -> infinity the maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(3.0))

    def forward(self, features: Tensor) -> Tensor:
        """Pool [N, C, H, W] to [N, C]."""
        # In float32: the cube of a half-precision value overflows or loses its small digits.
        positive = features.float().clamp_min(1e-6)
        return positive.pow(self.exponent).mean((2, 3)).pow(1 / self.exponent)


class Mean(nn.Module):
    """Average pooling."""

    def forward(self, features: Tensor) -> Tensor:
        """Pool [N, C, H, W] to [N, C]."""
        return features.float().mean((2, 3))


class InvertedResidual(nn.Module):
    """Expand (1x1), depthwise (k x k), project (1x1), with the input added where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [_conv(inputs, hidden, 1)] if expansion != 1 else []
        layers += [_conv(hidden, hidden, kernel, stride, groups=hidden), _conv(hidden, outputs, 1, activation=None)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        return x + self.layers(x) if self.residual else self.layers(x)


def _conv(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[..., nn.Module] | None = nn.ReLU6,
) -> nn.Module:
    return Conv2dNormActivation(
        inputs,
        outputs,
        kernel,
        stride,
        groups=groups,
        norm_layer=lambda channels: nn.BatchNorm2d(channels, eps=1e-3),
        activation_layer=activation,
    )


def _efficientnet_lite0() -> nn.Sequential:
    """EfficientNet-Lite0 (Google, 2020): EfficientNet-B0 without squeeze-and-excitation and with ReLU6."""
    # kernel, stride, expansion, channels, repeats
    stages = [
        (3, 1, 1, 16, 1),
        (3, 2, 6, 24, 2),
        (5, 2, 6, 40, 2),
        (3, 2, 6, 80, 3),
        (5, 1, 6, 112, 3),
        (5, 2, 6, 192, 4),
        (3, 1, 6, 320, 1),
    ]
    blocks: list[nn.Module] = [_conv(3, 32, 3, 2)]
    inputs = 32
    for kernel, stride, expansion, outputs, repeats in stages:
        for repeat in range(repeats):
            blocks.append(InvertedResidual(inputs, outputs, kernel, stride if repeat == 0 else 1, expansion))
            inputs = outputs
    blocks.append(_conv(inputs, 1280, 1))
    return nn.Sequential(*blocks)


def _features(name: str) -> Callable[[], nn.Sequential]:
    return lambda: torchvision.models.get_model(name, weights=None).features


def _without_head(name: str, layers: Sequence[str]) -> Callable[[], nn.Sequential]:
    def build() -> nn.Sequential:
        network = torchvision.models.get_model(name, weights=None)
        return nn.Sequential(*(getattr(network, layer) for layer in layers))

    return build


_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
_SHUFFLENET = ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5")

# Name: (builder, channels of the last feature map)
BACKBONES: dict[str, tuple[Callable[[], nn.Sequential], int]] = {
    "efficientnet_lite0": (_efficientnet_lite0, 1280),
    "efficientnet_b0": (_features("efficientnet_b0"), 1280),
    "mobilenet_v3_small": (_features("mobilenet_v3_small"), 576),
    "mobilenet_v3_large": (_features("mobilenet_v3_large"), 960),
    "shufflenet_v2_x1_0": (_without_head("shufflenet_v2_x1_0", _SHUFFLENET), 1024),
    "resnet18": (_without_head("resnet18", _RESNET), 512),
    "resnet50": (_without_head("resnet50", _RESNET), 2048),
}


def check_new_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise a UserError unless this can be the name of a new part of this kind."""
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise UserError(f"{kind} {name!r}: a name is made of letters, digits and underscores, a letter first.")
    if name in known:
        raise UserError(f"{kind} {name!r}: the name is taken; choose another.")


def register_backbone(name: str, build: Callable[[], nn.Sequential], width: int) -> None:
    """Make a backbone of one's own known, as `network.backbone` of `train` and of checkpoints trained with it.

    Whatever opens such a checkpoint must have registered the backbone first.

    Parameters
    ----------
    name : str
        Letters, digits and underscores; not that of another backbone.
    build : callable
        Returns it with fresh weights: crops, float [N, 3, H, W], to features [N, width, h, w], as a sequence of blocks
        (those that `network.frozen_blocks` counts).
    width : int
        Channels of its last feature map.

    Raises
    ------
    UserError
        If the name is taken or impossible, or what is built is no such sequence.
    """
    check_new_name("backbone", name, tuple(BACKBONES))
    built = build()
    if not isinstance(built, nn.Sequential):
        raise UserError(f"backbone {name!r} is a {type(built).__name__}; let it be a torch.nn.Sequential of blocks.")
    with torch.no_grad():
        shape = tuple(built.eval()(torch.zeros(1, 3, 64, 32)).shape)
    if len(shape) != 4 or shape[1] != width:
        raise UserError(f"backbone {name!r} gives features of the shape {shape}, not of {width} channels.")
    BACKBONES[name] = build, width


POOLINGS: dict[str, Callable[[], nn.Module]] = {"gem": GeneralisedMean, "average": Mean}


def fold_batch_norms(network: EmbeddingNetwork) -> None:
    """Fold each batch norm that directly follows a convolution into it, in place: same output, a third less time.

    For inference only: the network's tensors no longer have the names of a checkpoint.
    """
    for block in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for place in range(len(block) - 1):
            convolution, norm = block[place], block[place + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                block[place], block[place + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()


def _undo_last_stride(backbone: nn.Sequential) -> None:
    """Set the last downsampling stage to stride 1: every strided convolution of the last block that has any."""
    for block in reversed(list(backbone)):
        strided = [m for m in block.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
        for convolution in strided:
            convolution.stride = (1, 1)
        if strided:
            return
