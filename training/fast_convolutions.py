"""Depthwise and 1 x 1 convolutions whose gradients are fast in bfloat16 on a CPU.

PyTorch 2.14's own take 10 to 100 times longer than the forward pass for a depthwise convolution's input gradient at
stride 2 and its weight gradient of 5 x 5 kernels, and four times longer than a matrix product for the gradients of a
1 x 1 convolution on a small map. That eats all that bfloat16 wins elsewhere in a light network.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_SMALL_MAP = 8  # pixels of the result up to which one product per place in the kernel beats the library


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
        if weight.shape[-1] > 3 and gradient.shape[2] * gradient.shape[3] <= _SMALL_MAP:
            to_weight = _weight_gradient(gradient.float(), x.float(), weight.shape[-1], stride)
        else:
            to_weight = _plain_weight_gradient(gradient, x, weight, stride)
        return to_input, to_weight.to(weight.dtype), None


def _plain_weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    dtype, size, channels = x.dtype, weight.shape[-1], x.shape[1]
    if size > 3:
        dtype = torch.float32
    return torch.ops.aten.convolution_backward(
        gradient.to(dtype),
        x.to(dtype),
        weight.to(dtype),
        None,
        [stride, stride],
        [size // 2, size // 2],
        [1, 1],
        False,
        [0, 0],
        channels,
        [False, True, False],
    )[1]


def _weight_gradient(gradient: Tensor, x: Tensor, size: int, stride: int) -> Tensor:
    """Gradient [C, 1, size, size]: for each place in the kernel, the sum of the result's gradient times what it saw."""
    rows, columns = gradient.shape[2:]
    result = gradient.new_zeros(x.shape[1], 1, size, size)
    for i in range(size):
        top, bottom = _inside(i - size // 2, rows, x.shape[2], stride)
        for j in range(size):
            left, right = _inside(j - size // 2, columns, x.shape[3], stride)
            if top < bottom and left < right:
                y, z = top * stride + i - size // 2, left * stride + j - size // 2
                seen = x[:, :, y::stride, z::stride][:, :, : bottom - top, : right - left]
                result[:, 0, i, j] = (seen * gradient[:, :, top:bottom, left:right]).sum((0, 2, 3))
    return result


def _inside(offset: int, results: int, inputs: int, stride: int) -> tuple[int, int]:
    """First and last-plus-one of the results whose input, shifted by `offset`, is not in the padding."""
    return max(0, -(offset // stride)), min(results, (inputs - 1 - offset) // stride + 1)


class DepthwiseConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with the same parameters, for groups = channels and an odd square kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [N, C, H, W]."""
        if not torch.is_autocast_enabled("cpu") or x.device.type != "cpu":
            return super().forward(x)
        dtype = torch.get_autocast_dtype("cpu")
        return _Depthwise.apply(x.to(dtype), self.weight.to(dtype), self.stride[0])


class PointwiseConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with the same parameters, for 1 x 1 kernels: a matrix product over the pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [N, C, H, W]."""
        if not torch.is_autocast_enabled("cpu") or x.device.type != "cpu":
            return super().forward(x)
        return functional.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0]).permute(0, 3, 1, 2)


def use_fast_convolutions(network: nn.Module) -> None:
    """Let the depthwise and 1 x 1 convolutions of `network` use them, in place; the weights and their names stay."""
    for module in network.modules():
        if type(module) is not nn.Conv2d or module.bias is not None:
            continue
        sides = module.kernel_size
        if module.groups == module.in_channels == module.out_channels > 1:
            if sides[0] == sides[1] == 2 * int(module.padding[0]) + 1:
                module.__class__ = DepthwiseConv2d
        elif sides == module.stride == (1, 1) and module.groups == 1:
            module.__class__ = PointwiseConv2d
