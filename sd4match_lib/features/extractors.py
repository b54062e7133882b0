"""Dense features of any method behind one interface: what is computed per image, and what per pair."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from sd4match_lib.backbones.base import DiffusionBackbone
from sd4match_lib.backbones.vision import VisionFeatures
from sd4match_lib.config.schema import SdDinoConfig
from sd4match_lib.data.record import ImageRecord
from sd4match_lib.data.types import Pair
from sd4match_lib.features.cache import Tensors
from sd4match_lib.features.fusion import fuse_scales, join_halves
from sd4match_lib.features.stores import LatentStore, VisionStore
from sd4match_lib.geometry import HW
from sd4match_lib.images import stretch_image, to_tensor
from sd4match_lib.prompts.base import Prompt, PromptBatch, Scope


class FeatureSource(ABC):
    """A method's dense features.

    Attributes:
        scope: dataset or image: `extract` may be called once per image and its results kept; pair: only
            `extract_pairs` gives the method's features.
        keep_dtype: what extracted tensors may be kept in.
    """

    scope: Scope = Scope.IMAGE
    keep_dtype: torch.dtype = torch.float32

    @property
    def passes(self) -> int:
        """How many images have gone through a denoiser so far, counting each member of an ensemble."""
        return 0

    @property
    def encoded(self) -> int:
        """How many images have gone through a VAE so far."""
        return 0

    @property
    def warm_up_s(self) -> float:
        """How many seconds went into compiling so far."""
        return 0.0

    @abstractmethod
    def extract(self, records: Sequence[ImageRecord]) -> list[Tensors]:
        """Return what is needed of each image: maps (C, h, w) named "map0", "map1", ..."""

    def extract_pairs(self, pairs: Sequence[Pair]) -> tuple[list[Tensors], list[Tensors]]:
        """Return what is needed of each pair's source and of each pair's target."""
        return self.extract([pair.src for pair in pairs]), self.extract([pair.trg for pair in pairs])

    def pair_maps(self, src: Sequence[Tensors], trg: Sequence[Tensors]) -> tuple[Tensor, Tensor]:
        """Make the feature maps (B, C, h, w) of `B` sources and their targets out of what was extracted."""
        return torch.stack([item["map0"] for item in src]), torch.stack([item["map0"] for item in trg])


class DiffusionSource(FeatureSource):
    """Layers of a diffusion model under a prompt: SD4Match's features, and DIFT's."""

    def __init__(
        self,
        model: DiffusionBackbone,
        latents: LatentStore,
        prompt: Prompt,
        vision: VisionStore | None,
        *,
        layers: Sequence[str],
        timestep: int,
        ensemble: int,
        seed: int,
    ) -> None:
        """Read `model` under `prompt`.

        Args:
            model: the diffusion model.
            latents: its latents.
            prompt: what it is asked with; decides the scope.
            vision: what the prompt looks with, for prompts that need it.
            layers: whose outputs become "map0", "map1", ..., or "map0" alone where the prompt mixes them.
            timestep: diffusion step.
            ensemble: number of noises.
            seed: what they start from.
        """
        self.scope = prompt.scope
        # A model in half precision has no more digits to keep.
        self.keep_dtype = torch.float32 if model.dtype == torch.float32 else torch.float16
        self.model = model
        self._latents = latents
        self._prompt = prompt
        self._vision = vision
        self._layers = tuple(layers)
        self._timestep = timestep
        self._ensemble = ensemble
        self._seed = seed
        self._passes = 0
        self._warm = model.warm_up_s

    @property
    def warm_up_s(self) -> float:
        """See `FeatureSource.warm_up_s`."""
        return self.model.warm_up_s - self._warm

    @property
    def passes(self) -> int:
        """See `FeatureSource.passes`."""
        return self._passes

    @property
    def encoded(self) -> int:
        """See `FeatureSource.encoded`."""
        return self._latents.encoded

    def extract(self, records: Sequence[ImageRecord]) -> list[Tensors]:
        """See `FeatureSource.extract`."""
        context = self._prompt.context(self._batch(records), self.model.text)
        return _per_image(self._maps(records, context, self._seed))

    def extract_pairs(self, pairs: Sequence[Pair]) -> tuple[list[Tensors], list[Tensors]]:
        """Return the maps of both images under the pair's prompt; see `FeatureSource.extract_pairs`."""
        found = _per_image(self._pair_maps(pairs, self._seed))
        return found[: len(pairs)], found[len(pairs) :]

    def prepare(self, records: Sequence[ImageRecord]) -> None:
        """Put what is known of images before the UNet onto the disk: latents, and what the prompt sees."""
        self._batch(records)
        self._latents.get(records)

    def pair_features(self, pairs: Sequence[Pair], *, seed: int | str) -> tuple[Tensor, Tensor]:
        """Return the first layer's maps of `B` sources and of their targets, to learn the prompt with.

        Args:
            pairs: `B` pairs; all their images go through the UNet in one batch.
            seed: what latents and noises are drawn from, in place of the source's own.

        Returns:
            (B, C, h, w) each, float32; gradients flow back to the prompt.
        """
        src, trg = self._pair_maps(pairs, seed)[0].chunk(2)
        return src, trg

    def _pair_maps(self, pairs: Sequence[Pair], seed: int | str) -> list[Tensor]:
        srcs, trgs = [pair.src for pair in pairs], [pair.trg for pair in pairs]
        paired = self.scope is Scope.PAIR
        batch = self._batch(srcs, trgs) if paired else self._batch(srcs + trgs)
        context = self._prompt.context(batch, self.model.text)
        return self._maps(srcs + trgs, context.repeat(2, 1, 1) if paired else context, seed)

    def _batch(self, records: Sequence[ImageRecord], trgs: Sequence[ImageRecord] = ()) -> PromptBatch:
        return PromptBatch(
            image_ids=tuple(record.image_id for record in records),
            categories=tuple(record.category for record in records),
            trg_image_ids=tuple(record.image_id for record in trgs),
            vision=self._vision.get(records) if self._vision else None,
            trg_vision=self._vision.get(trgs) if self._vision and trgs else None,
        )

    def _maps(self, records: Sequence[ImageRecord], context: Tensor, seed: int | str) -> list[Tensor]:
        self._passes += len(records) * self._ensemble
        maps = self.model.features(
            self._latents.get(records),
            [record.image_id for record in records],
            context,
            self._layers,
            timestep=self._timestep,
            ensemble=self._ensemble,
            seed=seed,
        )
        return self._prompt.mix(maps)


def _per_image(maps: Sequence[Tensor]) -> list[Tensors]:
    """Batches of several scales to the scales of each image."""
    return [{f"map{k}": scale[row] for k, scale in enumerate(maps)} for row in range(len(maps[0]))]


class FusedSource(FeatureSource):
    """SD+DINO, or without a vision model SD+DINO*: scales of the decoder, fused per pair."""

    def __init__(self, scales: DiffusionSource, config: SdDinoConfig, dino: VisionFeatures | None) -> None:
        """Fuse `scales` (coarse to fine), and `dino`'s features where given, as `config` says."""
        self.scope = scales.scope
        self.keep_dtype = scales.keep_dtype
        self._scales = scales
        self._config = config
        self._dino = dino

    @property
    def warm_up_s(self) -> float:
        """See `FeatureSource.warm_up_s`."""
        return self._scales.warm_up_s

    @property
    def passes(self) -> int:
        """See `FeatureSource.passes`."""
        return self._scales.passes

    @property
    def encoded(self) -> int:
        """See `FeatureSource.encoded`."""
        return self._scales.encoded

    def extract(self, records: Sequence[ImageRecord]) -> list[Tensors]:
        """Return the scales and, as "dino", the other half; see `FeatureSource.extract`."""
        return self._with_dino(self._scales.extract(records), records)

    def extract_pairs(self, pairs: Sequence[Pair]) -> tuple[list[Tensors], list[Tensors]]:
        """See `FeatureSource.extract_pairs`."""
        src, trg = self._scales.extract_pairs(pairs)
        return (
            self._with_dino(src, [pair.src for pair in pairs]),
            self._with_dino(trg, [pair.trg for pair in pairs]),
        )

    def pair_maps(self, src: Sequence[Tensors], trg: Sequence[Tensors]) -> tuple[Tensor, Tensor]:
        """Reduce, resize and join, pair by pair; see `FeatureSource.pair_maps`."""
        fused = [self._fuse(*pair) for pair in zip(src, trg, strict=True)]
        return torch.stack([pair[0] for pair in fused]), torch.stack([pair[1] for pair in fused])

    def _with_dino(self, found: list[Tensors], records: Sequence[ImageRecord]) -> list[Tensors]:
        if self._dino is None:
            return found
        dense = self._dino.dense([record.read() for record in records])
        return [{**item, "dino": half} for item, half in zip(found, dense, strict=True)]

    def _fuse(self, src: Tensors, trg: Tensors) -> tuple[Tensor, Tensor]:
        config = self._config
        scales = [[item[f"map{k}"] for k in range(len(config.layers))] for item in (src, trg)]
        maps = fuse_scales(scales[0], scales[1], pca_dim=config.pca_dim, grid_hw=config.grid_hw)
        if self._dino is None:
            return maps
        return (
            join_halves(maps[0], src["dino"], sd_weight=config.sd_weight),
            join_halves(maps[1], trg["dino"], sd_weight=config.sd_weight),
        )


class VisionSource(FeatureSource):
    """Dense features of a vision model: DINOv2 or DINO."""

    def __init__(self, vision: VisionFeatures) -> None:
        """Read `vision`."""
        self._vision = vision

    def extract(self, records: Sequence[ImageRecord]) -> list[Tensors]:
        """See `FeatureSource.extract`."""
        return [{"map0": dense} for dense in self._vision.dense([record.read() for record in records])]


class LatentSource(FeatureSource):
    """The VAE's clean latents themselves (their mean): what the diffusion model starts from."""

    def __init__(self, latents: LatentStore) -> None:
        """Read `latents`."""
        self._latents = latents

    @property
    def encoded(self) -> int:
        """See `FeatureSource.encoded`."""
        return self._latents.encoded

    def extract(self, records: Sequence[ImageRecord]) -> list[Tensors]:
        """See `FeatureSource.extract`."""
        return [{"map0": mean} for mean in self._latents.get(records).mean]


class PixelSource(FeatureSource):
    """The pixels of each cell of a grid, strung together: what no model has touched."""

    def __init__(self, image_hw: HW, grid_hw: HW) -> None:
        """Cut pictures stretched to `image_hw` into `grid_hw` cells, as far as they divide evenly."""
        self._side = max(1, image_hw[0] // grid_hw[0])
        self._hw = (grid_hw[0] * self._side, grid_hw[1] * self._side)

    def extract(self, records: Sequence[ImageRecord]) -> list[Tensors]:
        """See `FeatureSource.extract`."""
        images = [to_tensor(stretch_image(record.read(), self._hw)) for record in records]
        return [{"map0": pixel_unshuffle(image, self._side)} for image in images]
