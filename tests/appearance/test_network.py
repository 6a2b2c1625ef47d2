import pytest
import torch
from torch import nn

from reid_tracker.appearance.network import BACKBONES, EmbeddingNetwork, fold_batch_norms
from reid_tracker.errors import UserError


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("last_stride", [1, 2])
def test_every_backbone_gives_unit_rows_and_the_stride_asked_for(backbone: str, last_stride: int) -> None:
    network = EmbeddingNetwork(backbone, 24, last_stride=last_stride).eval()
    images = torch.randn(2, 3, 64, 32)
    with torch.inference_mode():
        embeddings = network(images)
        features = network.backbone(images)
    assert embeddings.shape == (2, 24)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    assert features.shape[2:] == ((4, 2) if last_stride == 1 else (2, 1))


def test_without_a_linear_layer_the_backbones_width_is_kept() -> None:
    network = EmbeddingNetwork("mobilenet_v3_small", None, "average").eval()
    assert network.dimension == 576
    assert network(torch.randn(1, 3, 64, 32)).shape == (1, 576)


def test_training_mode_gives_triplet_features_and_neck_features() -> None:
    network = EmbeddingNetwork("mobilenet_v3_small", 16).train()
    pooled, necked = network(torch.randn(8, 3, 64, 32))
    # The neck is a batch norm without a shift: columns of mean 0 and variance 1 at the start.
    torch.testing.assert_close(necked, nn.functional.batch_norm(pooled, None, None, training=True))
    assert not network.neck.bias.requires_grad


def test_default_network_is_small_enough_to_ship() -> None:
    assert sum(parameter.numel() for parameter in EmbeddingNetwork().parameters()) <= 3_900_000


def test_generalised_mean_lies_between_mean_and_maximum() -> None:
    network = EmbeddingNetwork("mobilenet_v3_small", None)
    features = torch.rand(2, 5, 4, 2)
    pooled = network.pooling(features)
    assert (pooled >= features.mean((2, 3))).all() and (pooled <= features.amax((2, 3))).all()
    with torch.no_grad():
        network.pooling.exponent.fill_(1.0)
    torch.testing.assert_close(network.pooling(features), features.mean((2, 3)))


def test_folding_batch_norms_changes_nothing_but_the_work() -> None:
    network = EmbeddingNetwork("efficientnet_lite0", 16).train()
    for _ in range(3):  # let the statistics move away from 0 and 1
        network(torch.randn(8, 3, 64, 32) * 2 + 1)
    network.eval()
    images = torch.randn(4, 3, 64, 32)
    before = network(images)
    fold_batch_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(network(images), before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"backbone": "vgg"}, "vgg"), ({"pooling": "sum"}, "sum"), ({"last_stride": 3}, "3"), ({"dimension": 0}, "0")],
)
def test_impossible_settings_are_refused_by_name(settings: dict, name: str) -> None:
    with pytest.raises(UserError, match=name):
        EmbeddingNetwork(**settings)
