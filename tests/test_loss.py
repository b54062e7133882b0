import math

import pytest
import torch

from sd4match_lib.matching.loss import distance_loss, gaussian_kernel, matching_loss
from sd4match_lib.matching.points import match_points

ALL = torch.ones(1, 1, dtype=torch.bool)


def weight(dx: float, dy: float) -> float:
    """The kernel of side 7 by hand: sigma = 1.5."""
    return math.exp(-(dx**2 + dy**2) / 4.5) / (2 * math.pi * 2.25)


def random_features(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_kernel_has_the_stated_sigma_and_is_not_renormalised():
    kernel = gaussian_kernel(7)

    assert kernel[3, 3].item() == pytest.approx(0.0707355, abs=1e-7)
    assert kernel[3, 5].item() == pytest.approx(weight(2, 0))
    assert 0.9 < kernel.sum().item() < 1
    assert gaussian_kernel(3)[1, 1].item() == pytest.approx(1 / (2 * math.pi * 0.25))


@pytest.mark.parametrize(
    ("x", "y", "offsets_x", "offsets_y"),
    [
        (5.0, 4.0, range(-3, 4), range(-3, 4)),
        (5.4, 4.7, range(-3, 4), range(-3, 4)),
        (0.0, 0.0, range(0, 4), range(0, 4)),
        (10.0, 8.0, range(-3, 1), range(-3, 1)),
        (9.5, 4.0, range(-3, 1), range(-3, 4)),
    ],
    ids=["inside", "between cells", "first corner", "last corner", "half a cell from the border"],
)
def test_uniform_features_lose_the_kernel_weight_inside_times_log_of_the_cells(x, y, offsets_x, offsets_y):
    feat = torch.ones(1, 2, 9, 11)

    loss = matching_loss(feat, feat, torch.zeros(1, 1, 2), torch.tensor([[[x, y]]]), ALL)

    inside = sum(weight(dx, dy) for dx in offsets_x for dy in offsets_y)
    assert loss.item() == pytest.approx(inside * math.log(99), rel=1e-5)


def test_border_target_that_rounding_pushed_out_counts_as_on_the_border():
    feat = random_features(1, 4, 9, 11)
    src_ft = torch.zeros(1, 1, 2)

    exact = matching_loss(feat, feat, src_ft, torch.tensor([[[10.0, 8.0]]]), ALL, temperature=1.0)
    rounded = matching_loss(feat, feat, src_ft, torch.tensor([[[10.000004, 7.999996]]]), ALL, temperature=1.0)

    assert rounded.item() == pytest.approx(exact.item(), rel=1e-4)


def test_probability_is_interpolated_before_the_logarithm():
    # One row of cells, scores 1 and 0 by hand: p = softmax over 4 cells at temperature 0.5.
    trg_feat = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]])[None, :, None]
    src_feat = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    total = 2 * math.exp(2) + 2
    p = [math.exp(2) / total, 1 / total, 1 / total, math.exp(2) / total]

    loss = matching_loss(
        src_feat,
        trg_feat,
        torch.zeros(1, 1, 2),
        torch.tensor([[[1.25, 0.0]]]),
        ALL,
        temperature=0.5,
        kernel_size=3,
    )

    # Window positions on the row: 0.25, 1.25, 2.25; sigma = 0.5.
    read = [0.75 * p[0] + 0.25 * p[1], 0.75 * p[1] + 0.25 * p[2], 0.75 * p[2] + 0.25 * p[3]]
    kernel = [math.exp(-(dx**2) / 0.5) / (2 * math.pi * 0.25) for dx in (-1, 0, 1)]
    assert loss.item() == pytest.approx(
        -sum(k * math.log(q) for k, q in zip(kernel, read, strict=True)), rel=1e-5
    )


def test_mean_over_valid_keypoints_then_over_pairs_that_have_any():
    src_feat, trg_feat = random_features(3, 5, 8, 8), random_features(3, 5, 8, 8, seed=1)
    generator = torch.Generator().manual_seed(2)
    src_ft, trg_ft = (
        torch.rand(3, 4, 2, generator=generator) * 7,
        torch.rand(3, 4, 2, generator=generator) * 7,
    )
    valid = torch.tensor([[True, True, True, False], [True, False, False, False], [False] * 4])
    src_ft[~valid], trg_ft[~valid] = float("nan"), float("inf")

    def alone(pair: int, keypoint: int) -> float:
        rows, points = slice(pair, pair + 1), slice(keypoint, keypoint + 1)
        return matching_loss(
            src_feat[rows], trg_feat[rows], src_ft[rows, points], trg_ft[rows, points], ALL
        ).item()

    loss = matching_loss(src_feat, trg_feat, src_ft, trg_ft, valid).item()

    assert loss == pytest.approx(((alone(0, 0) + alone(0, 1) + alone(0, 2)) / 3 + alone(1, 0)) / 2, rel=1e-5)


def test_no_valid_keypoint_at_all_is_a_zero_that_can_be_differentiated():
    feat = random_features(2, 3, 4, 4).requires_grad_()
    nowhere = torch.full((2, 3, 2), float("nan"))

    loss = matching_loss(feat, feat, nowhere, nowhere, torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()

    assert loss.item() == 0
    assert torch.equal(feat.grad, torch.zeros_like(feat))


@pytest.mark.parametrize(
    "target", [(0.0, 0.0), (5.0, 4.0), (2.3, 1.6), (-1.0, 2.0), (40.0, 40.0), (4.99, 3.99)]
)
def test_gradient_is_exact_at_corners_between_cells_and_outside(target: tuple[float, float]):
    src_feat = random_features(1, 3, 4, 4, dtype=torch.float64).requires_grad_()
    trg_feat = random_features(1, 3, 5, 6, seed=1, dtype=torch.float64).requires_grad_()
    src_ft = torch.tensor([[[0.7, 3.0]]], dtype=torch.float64)
    trg_ft = torch.tensor([[target]], dtype=torch.float64)

    assert torch.autograd.gradcheck(
        lambda src, trg: matching_loss(src, trg, src_ft, trg_ft, ALL, temperature=0.3), (src_feat, trg_feat)
    )


def test_hopeless_confident_mistakes_stay_finite_in_half_precision():
    # The target cell's probability is e^-2000 or so: zero in any precision, yet its logarithm is known.
    trg_feat = torch.zeros(1, 2, 6, 6, dtype=torch.float16)
    trg_feat[:, 0] = -1
    trg_feat[:, 0, 5, 5] = 1
    src_feat = torch.zeros(1, 2, 6, 6, dtype=torch.float16)
    src_feat[:, 0] = 1
    src_feat.requires_grad_()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = matching_loss(
            src_feat, trg_feat, torch.ones(1, 1, 2), torch.zeros(1, 1, 2), ALL, temperature=0.001
        )
    loss.backward()

    inside = sum(weight(dx, dy) for dx in range(4) for dy in range(4))
    assert loss.item() == pytest.approx(2000 * inside, rel=1e-4)
    assert src_feat.grad.isfinite().all()


def test_zero_features_have_finite_gradients():
    feat = torch.zeros(1, 3, 5, 5, requires_grad=True)

    matching_loss(feat, feat, torch.ones(1, 1, 2), torch.ones(1, 1, 2), ALL).backward()

    assert feat.grad.isfinite().all()


def test_descending_the_loss_moves_the_match_to_the_target():
    src_feat = random_features(1, 8, 6, 6)
    trg_feat = random_features(1, 8, 6, 6, seed=1).requires_grad_()
    src_ft, trg_ft = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[4.0, 2.0]]])
    optimiser = torch.optim.Adam([trg_feat], lr=0.1)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = matching_loss(src_feat, trg_feat, src_ft, trg_ft, ALL)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())

    assert losses[-1] < 0.6 * losses[0]
    found = match_points(src_feat, trg_feat, src_ft, matcher="softargmax")
    torch.testing.assert_close(found, trg_ft, atol=0.5, rtol=0)


def test_wrong_settings_and_shapes_are_refused():
    feat, xy_ft = torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 2)
    valid = torch.ones(1, 2, dtype=torch.bool)

    with pytest.raises(ValueError, match="odd and at least 3, not 4"):
        matching_loss(feat, feat, xy_ft, xy_ft, valid, kernel_size=4)
    with pytest.raises(ValueError, match="temperature"):
        matching_loss(feat, feat, xy_ft, xy_ft, valid, temperature=0)
    with pytest.raises(ValueError, match=r"valid \(B, N\)"):
        matching_loss(feat, feat, xy_ft, xy_ft, valid[0])


def test_the_distance_is_that_of_the_tests_own_matcher_in_shares_of_the_grid():
    src_feat, trg_feat = random_features(2, 6, 8, 11), random_features(2, 6, 8, 11, seed=1)
    src_ft = torch.tensor([[[1.0, 2.0], [6.5, 3.0]], [[2.0, 2.0], [0.0, 0.0]]])
    trg_ft = torch.tensor([[[4.0, 5.0], [1.0, 1.0]], [[9.0, 7.0], [float("nan"), 0.0]]])
    valid = torch.tensor([[True, True], [True, False]])
    options = {"temperature": 0.04, "sigma": 1.6}

    loss = distance_loss(src_feat, trg_feat, src_ft, trg_ft, valid, **options)
    found = match_points(src_feat, trg_feat, src_ft, matcher="kernel_softargmax", **options)
    off = (found - trg_ft).norm(dim=-1) / 10
    assert loss.item() == pytest.approx(float(((off[0, 0] + off[0, 1]) / 2 + off[1, 0]) / 2), rel=1e-5)


def test_descending_the_distance_moves_the_match_to_the_target_and_stays_finite_on_it():
    src_feat = random_features(1, 6, 8, 8)
    trg_feat = random_features(1, 6, 8, 8, seed=1).requires_grad_()
    src_ft, trg_ft = torch.tensor([[[2.0, 2.0]]]), torch.tensor([[[5.0, 6.0]]])
    optimizer = torch.optim.Adam([trg_feat], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss = distance_loss(src_feat, trg_feat, src_ft, trg_ft, ALL, sigma=1.2)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.03 and torch.isfinite(trg_feat.grad).all()
    nowhere = distance_loss(src_feat, trg_feat, src_ft, trg_ft, ~ALL, sigma=1.2)
    nowhere.backward()
    assert nowhere.item() == 0 and torch.isfinite(trg_feat.grad).all()
