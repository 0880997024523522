"""How fast a program can be at best on a chip, by what it was compiled to: the least of what each limit allows."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.peaks import Chip


class Bound(NamedTuple):
    """Seconds of one call that each limit asks for; what is not known is not there."""

    seconds: dict[str, float]

    @property
    def binds(self) -> str | None:
        """The limit that asks for most."""
        return max(self.seconds, key=self.seconds.get) if self.seconds else None

    def per_second(self, count: float | None) -> float | None:
        """Of `count` things done in a call: how many a second, at the most."""
        return count / self.seconds[self.binds] if count and self.seconds and self.seconds[self.binds] else None


def bound(
    chip: Chip | None,
    dtype: str,
    *,
    moved: float,
    flops: float | None,
    cycles: int | None,
    sent: float = 0.0,
    link: float | None = None,
    far: float = 0.0,
    network: float | None = None,
) -> Bound:
    """moved, sent, far: bytes of main memory, of links that take `link` bytes/s, and of the `network` between slices.
    Each limit as if it were alone."""
    if chip is None:
        return Bound({})
    seconds = {"memory": moved / (chip.bandwidth * 1e9)}
    if cycles and chip.clock:
        seconds["cycles"] = cycles / (chip.clock * 1e9)
    if flops and dtype in chip.flops:
        seconds["arithmetic"] = flops / (chip.flops[dtype] * 1e12)
    if sent and link:
        seconds["link"] = sent / link
    if far and network:
        seconds["network"] = far / network
    return Bound(seconds)


def fitting_batch(batch: int, needed: float, memory: float, fixed: float = 0.0) -> int:
    """The largest batch that fits when memory grows with it: a multiple of 8, below that a power of two; 0 for none.

    needed: bytes at this batch, of them `fixed` whatever the batch.
    """
    most = int(batch * (memory - fixed) / max(needed - fixed, 1))
    if most >= 8:
        return most // 8 * 8
    return 1 << (most.bit_length() - 1) if most > 0 else 0
