"""Controls: prompts that nobody learned, and a UNet that knows nothing."""

import dataclasses
import shutil
from pathlib import Path

from sd4match_lib.analysis.prompts import untrained_prompt
from sd4match_lib.backbones.loading import quiet_loading
from sd4match_lib.backbones.weights import find_diffusion
from sd4match_lib.config.profile import Profile
from sd4match_lib.data.categories import category_noun
from sd4match_lib.data.datasets import open_dataset
from sd4match_lib.prompts.learned import DEFAULT_LENGTH, LearnedPrompt


def category_names_prompt(profile: Profile, dataset: str = "spair") -> LearnedPrompt:
    """Return the prompt of all categories' names, over and over until its 75 rows are full."""
    names = [category_noun(name) for name in open_dataset(profile.dataset(dataset), "train").categories]
    text = " ".join(names * DEFAULT_LENGTH)  # the tokenizer cuts it
    return untrained_prompt(profile, "single", dataset=dataset, options={"init": text})


def with_random_unet(profile: Profile, seed: int = 0) -> Profile:
    """Return the profile with its UNet's weights drawn at random from a seed, and all else the same.

    The model is written to the profile's cache once; its own hash tells its results from the real one's.
    """
    import torch
    from diffusers import UNet2DConditionModel

    found = find_diffusion(profile.model, profile.cache_path)
    folder = profile.cache_path / f"random-unet-{found.sha256[:12]}-{seed}"
    if not folder.is_dir():
        draft = folder.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        for name in found.files:
            if Path(name).parts[0] != "unet":
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found.folder / name, draft / name)
        with torch.random.fork_rng(), quiet_loading():
            torch.manual_seed(seed)
            config = UNet2DConditionModel.load_config(found.folder / "unet")
            UNet2DConditionModel.from_config(config).save_pretrained(draft / "unet")
        draft.rename(folder)
    model = dataclasses.replace(profile.model, sources=(str(folder),), sha256=None)
    return dataclasses.replace(profile, model=model)
