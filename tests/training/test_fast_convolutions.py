import pytest
import torch
from torch import nn

from reid_tracker.appearance.network import EmbeddingNetwork
from reid_tracker.training.depthwise import DepthwiseConv2d, use_fast_depthwise


@pytest.mark.parametrize("size", [(16, 8), (9, 7), (4, 2), (3, 5), (2, 1)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_gradients_are_those_of_the_plain_convolution(kernel: int, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(12, 12, kernel, stride, kernel // 2, groups=12, bias=False)
    fast = nn.Sequential(nn.Conv2d(12, 12, kernel, stride, kernel // 2, groups=12, bias=False))
    fast[0].load_state_dict(plain.state_dict())
    use_fast_depthwise(fast)
    assert isinstance(fast[0], DepthwiseConv2d)
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
    use_fast_depthwise(network)
    assert sum(isinstance(module, DepthwiseConv2d) for module in network.modules()) == 16
    assert torch.equal(network(images), before) and list(network.state_dict()) == names
