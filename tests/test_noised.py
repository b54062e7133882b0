import numpy as np
from PIL import Image

from sd4match_lib.analysis.generate import noised_pictures
from sd4match_lib.config.profile import load_profile
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.images import stretch_image


def test_a_picture_drowns_in_noise_step_by_step(tmp_path):
    profile = load_profile("smoke")
    rows, columns = np.mgrid[0:96, 0:128]
    smooth = np.stack([rows * 2, columns, 255 - rows - columns], -1).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.png")
    record = ImageRecord("cat/a", "cat", tmp_path / "a.png", (96, 128), None, None, False, None)
    seen = noised_pictures(profile, record, [0, 261, 900])
    assert list(seen) == [0, 261, 900] and {shown.size for shown in seen.values()} == {(128, 128)}
    clean = stretch_image(record.read(), profile.model.image_hw).astype(float)
    off = [np.abs(np.asarray(shown, float) - clean).mean() for shown in seen.values()]
    assert off[0] < off[1] < off[2] and off[0] < 20
    assert seen[261].tobytes() == noised_pictures(profile, record, [261])[261].tobytes()
    assert seen[261].tobytes() != noised_pictures(profile, record, [261], seed=1)[261].tobytes()
