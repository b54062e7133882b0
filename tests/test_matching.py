import math

import pytest
import torch
from torch.nn import functional

from sd4match_lib.config.names import MATCHERS
from sd4match_lib.errors import UserError
from sd4match_lib.matching import points
from sd4match_lib.matching.correlation import Correlation, sample_features, surrounding_cells
from sd4match_lib.matching.points import match_points

METHODS = list(MATCHERS)


def random_features(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def one_hot_grid(height: int, width: int) -> torch.Tensor:
    """Every cell its own orthogonal feature: (1, h * w, h, w)."""
    return torch.eye(height * width).view(1, height * width, height, width)


def score_map_features(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Source and target features whose cosine similarities are exactly `scores` (h, w)."""
    trg_feat = torch.stack([scores, (1 - scores**2).clamp(min=0).sqrt()])[None]
    src_feat = torch.zeros(1, 2, 2, 2)
    src_feat[:, 0] = 1
    return src_feat, trg_feat


def test_surrounding_cells_give_the_hand_computed_bilinear_weights():
    index, weight = surrounding_cells(torch.tensor([[1.25, 2.5]]), (4, 5))

    assert index.tolist() == [[2 * 5 + 1, 2 * 5 + 2, 3 * 5 + 1, 3 * 5 + 2]]
    torch.testing.assert_close(weight, torch.tensor([[0.375, 0.125, 0.375, 0.125]]))


def test_sampling_agrees_with_grid_sample_and_clamps_outside():
    feat = random_features(2, 3, 5, 7)
    xy_ft = torch.rand(2, 11, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([8.0, 6.0]) - 1
    xy_ft[0, 0] = torch.tensor([6.0, 4.0])
    normalised = xy_ft / torch.tensor([6.0, 4.0]) * 2 - 1

    expected = functional.grid_sample(
        feat, normalised[:, :, None], mode="bilinear", padding_mode="border", align_corners=True
    )

    torch.testing.assert_close(sample_features(feat, xy_ft), expected[..., 0].transpose(1, 2))


@pytest.mark.parametrize("method", METHODS)
def test_planted_correspondences_are_found(method: str):
    src_feat = one_hot_grid(4, 5)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    trg_feat = src_feat.flatten(2)[:, :, order].view_as(src_feat)
    cells = torch.tensor([0, 4, 7, 19])
    landed = torch.stack([torch.nonzero(order == cell)[0, 0] for cell in cells])

    found = match_points(
        src_feat, trg_feat, torch.stack([cells % 5, cells // 5], -1)[None].float(), matcher=method
    )

    # Orthogonal features: e^25 against 19 cells of e^0, so the soft matchers are off by 1e-9 at most.
    torch.testing.assert_close(
        found[0], torch.stack([landed % 5, landed // 5], -1).float(), atol=1e-4, rtol=0
    )


def test_bilinear_follows_a_sub_cell_shift_that_nearest_neighbour_rounds():
    src_feat = one_hot_grid(6, 6)
    trg_feat = torch.roll(src_feat, shifts=(1, 2), dims=(2, 3))
    src_ft = torch.tensor([[[1.25, 2.75]]])

    bilinear = match_points(src_feat, trg_feat, src_ft, matcher="bilinear")
    nearest = match_points(src_feat, trg_feat, src_ft, matcher="nn")

    torch.testing.assert_close(bilinear, torch.tensor([[[3.25, 3.75]]]))
    torch.testing.assert_close(nearest, torch.tensor([[[3.0, 4.0]]]))


def test_bilinear_averages_the_argmaxes_of_cells_that_went_apart():
    src_feat = one_hot_grid(2, 2)
    trg_feat = torch.zeros(1, 4, 6, 6)  # cell 0 moves to (5, 0), cell 1 to (0, 5), ...
    for cell, (x, y) in enumerate([(5, 0), (0, 5), (5, 5), (0, 0)]):
        trg_feat[0, cell, y, x] = 1

    found = match_points(src_feat, trg_feat, torch.tensor([[[0.25, 0.5]]]), matcher="bilinear")

    # Weights 0.375, 0.125, 0.375, 0.125: x = 5 * (0.375 + 0.375), y = 5 * (0.125 + 0.375).
    torch.testing.assert_close(found, torch.tensor([[[3.75, 2.5]]]))


def test_two_peaks_split_softargmax_and_hardly_move_kernel_softargmax():
    high, low, temperature, sigma, width = 0.9, 0.86, 0.04, 2.0, 12
    scores = torch.zeros(1, width)
    scores[0, 1], scores[0, 9] = high, low
    src_feat, trg_feat = score_map_features(scores)
    src_ft = torch.zeros(1, 1, 2)

    def expected(score_of_cell):
        weights = [math.exp(score / temperature) for score in score_of_cell]
        return sum(x * weight for x, weight in enumerate(weights)) / sum(weights)

    plain = [high if x == 1 else low if x == 9 else 0.0 for x in range(width)]
    damped = [score * math.exp(-((x - 1) ** 2) / (2 * sigma**2)) for x, score in enumerate(plain)]

    soft = match_points(src_feat, trg_feat, src_ft, matcher="softargmax", temperature=temperature)
    kernel = match_points(src_feat, trg_feat, src_ft, temperature=temperature, sigma=sigma)

    assert soft[0, 0, 0].item() == pytest.approx(expected(plain), abs=1e-4)
    # e^-1 between the peaks: 1 + 8 / (1 + e), nearly, for the other cells weigh e^-21 each.
    assert soft[0, 0, 0].item() == pytest.approx(1 + 8 / (1 + math.e), abs=1e-3)
    assert kernel[0, 0, 0].item() == pytest.approx(expected(damped), abs=1e-4)
    assert kernel[0, 0, 0].item() == pytest.approx(1.0, abs=1e-3)
    assert soft[0, 0, 1].item() == kernel[0, 0, 1].item() == 0


def test_kernel_is_centred_on_the_maximum_in_both_axes():
    # A pedestal pulls the plain mean towards the grid's centre (6, 4); the Gaussian around (9, 2) cuts it
    # off.
    scores = torch.full((9, 13), 0.5)
    scores[2, 9] = 0.75
    src_feat, trg_feat = score_map_features(scores)

    kernel = match_points(src_feat, trg_feat, torch.zeros(1, 1, 2), sigma=1.0)
    soft = match_points(src_feat, trg_feat, torch.zeros(1, 1, 2), matcher="softargmax")

    # Plain: e^6.25 = 518.0 against 116 cells, so 116 / 634.0 of the way to the mean of the others.
    pull = 116 / (math.exp(6.25) + 116)
    others = torch.tensor([(117 * 6 - 9) / 116, (117 * 4 - 2) / 116])
    torch.testing.assert_close(soft[0, 0], torch.tensor([9.0, 2.0]) * (1 - pull) + others * pull)
    torch.testing.assert_close(kernel, torch.tensor([[[9.0, 2.0]]]), atol=5e-3, rtol=0)


def test_softargmax_of_uniform_scores_is_the_centre_of_the_grid():
    src_feat, trg_feat = torch.ones(1, 3, 4, 4), torch.ones(1, 3, 5, 9)

    found = match_points(src_feat, trg_feat, torch.ones(1, 1, 2), matcher="softargmax")

    torch.testing.assert_close(found, torch.tensor([[[4.0, 2.0]]]))


def test_correlation_is_the_cosine_and_ignores_feature_lengths():
    src_feat, trg_feat = random_features(2, 6, 4, 5), random_features(2, 6, 3, 4, seed=1)
    src_ft = torch.tensor([[[0.0, 0.0], [4.0, 3.0]], [[1.0, 2.0], [2.0, 0.0]]])

    scores = Correlation(src_feat * 7, trg_feat * 0.01)(src_ft)

    assert scores.shape == (2, 2, 3, 4)
    expected = functional.cosine_similarity(src_feat[1, :, 2, 1], trg_feat[1, :, 2, 3], dim=0)
    torch.testing.assert_close(scores[1, 0, 2, 3], expected)
    assert scores.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_batch_order_and_batch_size_do_not_matter(method: str):
    src_feat, trg_feat = random_features(3, 8, 6, 6), random_features(3, 8, 6, 6, seed=1)
    src_ft = torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(2)) * 5
    order = torch.tensor([2, 0, 1])

    whole = match_points(src_feat, trg_feat, src_ft, matcher=method)
    permuted = match_points(src_feat[order], trg_feat[order], src_ft[order], matcher=method)
    single = match_points(src_feat[1:2], trg_feat[1:2], src_ft[1:2], matcher=method)

    torch.testing.assert_close(permuted, whole[order])
    torch.testing.assert_close(single, whole[1:2])


@pytest.mark.parametrize("method", METHODS)
def test_padding_comes_back_as_nan_and_moves_nothing_else(method: str):
    src_feat, trg_feat = random_features(1, 8, 6, 6), random_features(1, 8, 6, 6, seed=1)
    src_ft = torch.tensor([[[1.5, 2.0], [4.0, 4.5]]])
    padded = torch.cat([src_ft, torch.full((1, 3, 2), float("nan"))], dim=1)

    found = match_points(src_feat, trg_feat, padded, matcher=method)

    torch.testing.assert_close(found[:, :2], match_points(src_feat, trg_feat, src_ft, matcher=method))
    assert found[:, 2:].isnan().all()


@pytest.mark.parametrize("method", METHODS)
def test_matching_in_chunks_changes_nothing(method: str, monkeypatch: pytest.MonkeyPatch):
    src_feat, trg_feat = random_features(2, 4, 5, 5), random_features(2, 4, 5, 5, seed=1)
    src_ft = torch.rand(2, 7, 2, generator=torch.Generator().manual_seed(2)) * 4
    whole = match_points(src_feat, trg_feat, src_ft, matcher=method)
    widths = []
    call = Correlation.__call__
    monkeypatch.setattr(
        Correlation, "__call__", lambda self, xy_ft: (widths.append(xy_ft.shape[1]), call(self, xy_ft))[1]
    )
    monkeypatch.setattr(points, "MAX_SCORES", 2 * 2 * 25)

    chunked = match_points(src_feat, trg_feat, src_ft, matcher=method)

    torch.testing.assert_close(chunked, whole)
    assert max(widths) == 2, "no more scores at once than allowed"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_even_under_autocast(method: str, dtype: torch.dtype):
    src_feat = (random_features(1, 64, 8, 8) * 40).to(dtype)
    trg_feat = (random_features(1, 64, 8, 8, seed=1) * 40).to(dtype)
    src_ft = torch.tensor([[[1.5, 2.0], [4.0, 4.5], [7.0, 7.0]]])

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = match_points(src_feat, trg_feat, src_ft, matcher=method)

    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, match_points(src_feat.float(), trg_feat.float(), src_ft, matcher=method)
    )


@pytest.mark.parametrize("method", METHODS)
def test_zero_features_and_no_keypoints_are_harmless(method: str):
    zeros, src_ft = torch.zeros(2, 3, 4, 4), torch.ones(2, 2, 2)

    assert match_points(zeros, zeros, src_ft, matcher=method).isfinite().all()
    assert match_points(zeros, zeros, src_ft[:, :0], matcher=method).shape == (2, 0, 2)


def test_unknown_method_and_bad_settings_are_one_clear_sentence():
    feat, src_ft = torch.ones(1, 2, 3, 3), torch.zeros(1, 1, 2)

    with pytest.raises(UserError, match=r"'argmax'.*nn, bilinear, softargmax, kernel_softargmax"):
        match_points(feat, feat, src_ft, matcher="argmax")
    with pytest.raises(UserError, match="temperature is 0"):
        match_points(feat, feat, src_ft, temperature=0)
    with pytest.raises(UserError, match="sigma is -1"):
        match_points(feat, feat, src_ft, sigma=-1)
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 3\) and \(1, 4, 3, 3\)"):
        match_points(feat, torch.ones(1, 4, 3, 3), src_ft)
    with pytest.raises(ValueError, match="Keypoints must be"):
        match_points(feat, feat, src_ft[0])
