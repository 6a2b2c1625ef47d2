"""Depthwise convolution with a gradient that is fast in bfloat16 on a CPU.

PyTorch 2.14's own takes 10 to 100 times longer than the forward pass for the input gradient at stride 2 and for the
weight gradient of 5 x 5 kernels, which eats all that bfloat16 wins elsewhere in a light network.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        stride, padding, channels = ctx.stride, weight.shape[-1] // 2, x.shape[1]
        # The input's gradient is a convolution by the mirrored kernel, once the pixels a stride left out are put back.
        spread = gradient
        if stride > 1:
            spread = torch.zeros_like(x)
            spread[:, :, ::stride, ::stride] = gradient
        to_input = functional.conv2d(spread, weight.flip(2, 3), padding=padding, groups=channels)
        dtype = torch.float32 if weight.shape[-1] > 3 else x.dtype
        to_weight = torch.ops.aten.convolution_backward(
            gradient.to(dtype),
            x.to(dtype),
            weight.to(dtype),
            None,
            [stride, stride],
            [padding, padding],
            [1, 1],
            False,
            [0, 0],
            channels,
            [False, True, False],
        )[1]
        return to_input, to_weight.to(weight.dtype), None


class DepthwiseConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with the same parameters, for groups = channels and an odd square kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [N, C, H, W]."""
        if not torch.is_autocast_enabled("cpu") or x.device.type != "cpu":
            return super().forward(x)
        dtype = torch.get_autocast_dtype("cpu")
        return _Depthwise.apply(x.to(dtype), self.weight.to(dtype), self.stride[0])


def use_fast_depthwise(network: nn.Module) -> None:
    """Let the depthwise convolutions of `network` use it, in place; the weights and their names stay."""
    for module in network.modules():
        if (
            type(module) is nn.Conv2d
            and module.groups == module.in_channels == module.out_channels > 1
            and module.bias is None
            and module.kernel_size[0] == module.kernel_size[1] == 2 * int(module.padding[0]) + 1
        ):
            module.__class__ = DepthwiseConv2d
