"""Which pairs a step sees: every pair once per epoch, in an order that the seed and the step decide alone."""

import torch


class PairOrder:
    """Shuffled epochs, cut into batches; a batch may reach over the end of an epoch."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        """Order `count` pairs."""
        self._count = count
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = -1
        self._order: list[int] = []

    def batch(self, step: int) -> list[int]:
        """Return the places of the pairs of step `step`, counted from 0."""
        first = step * self._batch_size
        return [self._at(place) for place in range(first, first + self._batch_size)]

    def _at(self, place: int) -> int:
        epoch, within = divmod(place, self._count)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
            self._order = torch.randperm(self._count, generator=generator).tolist()
            self._epoch = epoch
        return self._order[within]
