"""Features that are kept from saying the same thing twice."""

import pytest
import torch
from plain_training import assert_agrees, plain_copy
from treated import BASE, batch, conv_specs, part, sample, train, trained

from plasticbench.learning.treatments.feature_decorrelation import mean_squared_covariance


def test_covariances_by_hand() -> None:
    """Two features that move together by 1 around their means, and one that stands still."""
    features = torch.tensor([[[1.0, 3.0, 5.0], [-1.0, 1.0, 5.0]]])
    # Pairs (0, 1) and (1, 0) have the covariance 1, the other four none.
    assert mean_squared_covariance(features, is_scaled=False).tolist() == pytest.approx([2 / 6])
    assert mean_squared_covariance(10 * features, is_scaled=False).tolist() == pytest.approx([2 / 6 * 100**2])
    assert mean_squared_covariance(10 * features, is_scaled=True).tolist() == pytest.approx([2 / 6], rel=1e-4)


@pytest.mark.parametrize("of", ["covariances", "correlations"])
def test_members_of_two_strengths_agree_with_plain_training_under_the_penalty(of) -> None:
    strengths = (0.1, 2.0)
    network = trained([[part("feature_decorrelation", strength=strength, of=of)] for strength in strengths])
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, strength) in enumerate(zip(modules, strengths, strict=True)):
        optimizer = torch.optim.Adam(module.parameters(), lr=BASE.learning_rate, eps=BASE.eps)
        for step in range(1, 21):
            inputs, targets = batch([member], step)
            features = module[:-1](inputs[0])
            deviations = features - features.mean(dim=0)
            if of == "correlations":
                deviations = deviations / (deviations.square().mean(dim=0) + 1e-6).sqrt()
            covariance = deviations.T @ deviations / len(features)
            pairs = covariance - torch.diag(torch.diag(covariance))
            penalty = strength * pairs.square().sum() / (6 * 5)
            optimizer.zero_grad()
            ((module(inputs[0]) - targets[0]).square().mean() + penalty).backward()
            optimizer.step()
        assert_agrees(network, member, module)


@pytest.mark.parametrize("layers", [None, conv_specs()])
def test_a_strong_penalty_leaves_less_correlation_than_none(layers) -> None:
    shape = (4,) if layers is None else (3, 6, 6)
    network = trained(
        [[part("feature_decorrelation", preset="correlations", strength=10.0)], [part("none")]], layers=layers
    )
    train(network, 150, shape=shape)
    features = list(sample(network, 1, shape).activations.values())[-1]
    treated, untreated = mean_squared_covariance(features, is_scaled=True).tolist()
    assert treated < 0.5 * untreated
