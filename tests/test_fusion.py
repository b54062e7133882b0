import pytest
import torch
from torch.nn.functional import cosine_similarity

from sd4match_lib.features.fusion import fuse_scales, join_halves, pair_pca


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_pca_of_a_pair_spans_the_leading_components_of_both_maps():
    src, trg = random(6, 5, 4, seed=1), random(6, 5, 4, seed=2)
    reduced = torch.cat([half.flatten(1) for half in pair_pca(src, trg, 3)], dim=1).double()
    samples = torch.cat([src.flatten(1), trg.flatten(1)], dim=1).double()
    samples = samples - samples.mean(1, keepdim=True)
    left, values, _ = torch.linalg.svd(samples, full_matrices=False)
    # Same inner products as the best rank-3 approximation: equal up to the signs of the components.
    best = left[:, :3].T @ samples
    torch.testing.assert_close(reduced.T @ reduced, best.T @ best, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reduced.norm(dim=1), values[:3], atol=1e-5, rtol=1e-5)


def test_pca_is_deterministic_and_keeps_everything_when_it_may():
    src, trg = random(6, 5, 4, seed=1), random(6, 5, 4, seed=2)
    first, second = pair_pca(src, trg, 4), pair_pca(src, trg, 4)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    full = pair_pca(src, trg, 100)
    assert full[0].shape == (6, 5, 4)
    assert torch.dist(full[0], full[1]).item() == pytest.approx(torch.dist(src, trg).item(), rel=1e-5)


def test_scales_meet_on_one_grid_with_unit_vectors():
    scales = [
        [random(8, 4, 4, seed=i), random(6, 8, 8, seed=i + 1), random(4, 16, 16, seed=i + 2)] for i in (0, 5)
    ]
    src, trg = fuse_scales(*scales, pca_dim=3, grid_hw=(8, 8))
    assert src.shape == trg.shape == (9, 8, 8)
    torch.testing.assert_close(src.norm(dim=0), torch.ones(8, 8))
    same, _ = fuse_scales(scales[0], scales[0], pca_dim=3, grid_hw=(8, 8))
    assert same.isfinite().all()


@pytest.mark.parametrize("weight", [0.5, 0.2, 1.0])
def test_the_cosine_of_joined_halves_is_the_weighted_mean_of_the_cosines(weight):
    sd, dino = random(2, 7, 4, 4, seed=1), 50 * random(2, 5, 4, 4, seed=2)
    joined = [join_halves(sd[i], dino[i], sd_weight=weight) for i in (0, 1)]
    expected = weight * cosine_similarity(sd[0], sd[1], dim=0) + (1 - weight) * cosine_similarity(
        dino[0], dino[1], dim=0
    )
    torch.testing.assert_close(cosine_similarity(joined[0], joined[1], dim=0), expected)


def test_the_second_half_is_brought_to_the_grid_of_the_first():
    assert join_halves(random(3, 8, 8), random(5, 4, 6), sd_weight=0.5).shape == (8, 8, 8)
