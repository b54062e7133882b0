import numpy as np
import pytest
import torch

from sd4match_lib import geometry

HW_PX, HW_IN, HW_FT = (100, 200), (768, 512), (48, 32)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_each_axis_has_its_own_factor_and_the_way_back_is_exact(kind):
    xy_px = kind(np.array([[50.0, 20.0], [0.0, 0.0], [199.0, 99.0]], dtype=np.float32))

    xy_in = geometry.stretch_points(xy_px, HW_PX, HW_IN)

    assert type(xy_in) is type(xy_px) and xy_in.dtype == xy_px.dtype
    np.testing.assert_allclose(np.asarray(xy_in)[0], [50 * 512 / 200, 20 * 768 / 100], rtol=1e-6)
    np.testing.assert_allclose(geometry.unstretch_points(xy_in, HW_PX, HW_IN), xy_px, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_the_grid_aligns_corners(kind):
    corners = kind(np.array([[0.0, 0.0], [511.0, 767.0]], dtype=np.float32))

    xy_ft = geometry.to_grid(corners, hw_in=HW_IN, hw_ft=HW_FT)

    np.testing.assert_allclose(xy_ft, [[0, 0], [31, 47]], rtol=1e-6)
    np.testing.assert_allclose(geometry.from_grid(xy_ft, hw_in=HW_IN, hw_ft=HW_FT), corners, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_clamping_keeps_points_on_pixels_of_the_picture(kind):
    xy = kind(np.array([[[-3.0, 500.0], [511.5, 10.25]]], dtype=np.float32))

    np.testing.assert_array_equal(geometry.clamp_points(xy, (480, 512)), [[[0, 479], [511, 10.25]]])


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_mirroring_exchanges_the_outermost_columns_and_leaves_its_input_alone(kind):
    xy_px = kind(np.array([[0.0, 7.0], [199.0, 8.0]], dtype=np.float32))

    mirrored = geometry.flip_points(xy_px, HW_PX)

    np.testing.assert_array_equal(mirrored, [[199, 7], [0, 8]])
    np.testing.assert_array_equal(xy_px, [[0, 7], [199, 8]])


def test_no_points_stay_no_points():
    empty = np.zeros((0, 2), np.float32)

    assert geometry.stretch_points(empty, HW_PX, HW_IN).shape == (0, 2)
    assert geometry.clamp_points(empty, HW_PX).shape == (0, 2)


def test_gradients_pass_through():
    xy = torch.tensor([[3.0, 4.0]], requires_grad=True)

    geometry.to_grid(xy, hw_in=HW_IN, hw_ft=HW_FT).sum().backward()

    torch.testing.assert_close(xy.grad, torch.tensor([[31 / 511, 47 / 767]]))
