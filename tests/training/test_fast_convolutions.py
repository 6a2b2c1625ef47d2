import copy

import pytest
import torch
from torch import nn

from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.training.fast_convolutions import DepthwiseConv2d, PointwiseConv2d, use_fast_convolutions


@pytest.mark.parametrize("size", [(16, 8), (9, 7), (4, 2), (3, 5), (2, 1)])
@pytest.mark.parametrize(
    ("plain", "kind"),
    [
        (nn.Conv2d(12, 12, 3, 1, 1, groups=12, bias=False), DepthwiseConv2d),
        (nn.Conv2d(12, 12, 3, 2, 1, groups=12, bias=False), DepthwiseConv2d),
        (nn.Conv2d(12, 12, 5, 1, 2, groups=12, bias=False), DepthwiseConv2d),
        (nn.Conv2d(12, 12, 5, 2, 2, groups=12, bias=False), DepthwiseConv2d),
        (nn.Conv2d(12, 20, 1, bias=False), PointwiseConv2d),
    ],
)
def test_gradients_are_those_of_the_plain_convolution(plain: nn.Conv2d, kind: type, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain.zero_grad()
    fast = nn.Sequential(copy.deepcopy(plain))
    use_fast_convolutions(fast)
    assert type(fast[0]) is kind
    x = torch.randn(6, 12, *size)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    expected = plain(inputs[0])
    with torch.autocast("cpu", torch.bfloat16):
        result = fast(inputs[1])
    gradient = torch.randn_like(expected)
    expected.backward(gradient)
    result.backward(gradient.bfloat16())
    for actual, wanted in [
        (result, expected),
        (inputs[1].grad, inputs[0].grad),
        (fast[0].weight.grad, plain.weight.grad),
    ]:
        assert actual is not None and wanted is not None
        assert (actual.float() - wanted).norm() < 0.01 * wanted.norm()  # bfloat16 has 3 digits


def test_without_autocast_it_is_the_plain_convolution() -> None:
    network = EmbeddingNetwork("efficientnet_lite0", 8).eval()
    images = torch.randn(2, 3, 64, 32)
    before, names = network(images), list(network.state_dict())
    use_fast_convolutions(network)
    assert sum(isinstance(module, DepthwiseConv2d) for module in network.modules()) == 16
    assert sum(isinstance(module, PointwiseConv2d) for module in network.modules()) == 32
    assert torch.equal(network(images), before) and list(network.state_dict()) == names
