"""Chips that are not here: what they are, which of their limits binds, how large a batch they hold."""

import pytest

from benchmarks.compile import targets
from benchmarks.compile.bound import bound, fitting_batch
from benchmarks.peaks import DATA_SHEETS
from data_pipelines.errors import UserError
from spt_jax.runs.targets import TARGETS as PRODUCT


def test_the_largest_limit_binds():
    chip = DATA_SHEETS["TPU v5 lite"]
    found = bound(chip, "bfloat16", moved=819e9, flops=197e12 / 2, cycles=int(3e9), sent=20e9, link=200e9)
    assert found.seconds == pytest.approx({"memory": 1, "arithmetic": 0.5, "cycles": 2, "link": 0.1})
    assert found.binds == "cycles" and found.per_second(1024) == 512
    assert "arithmetic" not in bound(chip, "float32", moved=1, flops=1e12, cycles=None).seconds
    nothing = bound(None, "bfloat16", moved=1e9, flops=1e12, cycles=10)
    assert nothing.binds is None and nothing.per_second(8) is None


def test_the_clock_of_a_chip_is_what_its_units_need_for_its_peak():
    for name, rows, side in (("TPU v5 lite", 1, 128), ("TPU v5", 1, 128), ("TPU v6 lite", 2, 256)):
        chip = DATA_SHEETS[name]
        assert 2e-3 * chip.units * rows * side**2 * chip.clock == pytest.approx(chip.flops["bfloat16"], rel=0.01)


@pytest.mark.parametrize(
    ("batch", "needed", "memory", "fixed", "fits"),
    [(1024, 32e9, 16e9, 0, 512), (1024, 33e9, 16e9, 1e9, 480), (16, 32e9, 8e9, 0, 4), (16, 32e9, 1e9, 2e9, 0)],
)
def test_a_batch_that_fits_is_named(batch, needed, memory, fixed, fits):
    assert fitting_batch(batch, needed, memory, fixed) == fits


def test_targets_are_whole_machines():
    def topology(name, chips):
        return targets.find(name, chips).topology(chips)[0]

    assert [topology("v5e", chips) for chips in (1, 4, 8, 64, 256)] == [
        "v5e:2x2", "v5e:2x2", "v5e:2x4", "v5e:8x8", "v5e:16x16",
    ]  # fmt: skip
    assert [topology("v5p", chips) for chips in (8, 64, 128)] == ["v5p:2x2x2", "v5p:4x4x4", "v5p:4x4x8"]
    assert topology("tpu7x", 8) == "tpu7x:2x2x1"
    assert [targets.find("h200", n).topology(n)[1]["topology"] for n in (1, 8, 16)] == ["1x1x1", "1x1x8", "1x2x8"]
    text = targets.find("H200").topology(1)[1]["target_config"]
    assert "memory_bandwidth: 4800000000000" in text and "device_memory_size: 141000000000" in text
    assert targets.find("H200").topology(1)[1] == PRODUCT["h200"].topology[1]
    links = [targets.find(name, n).link(n) for name, n in (("v5e", 256), ("H100", 8), ("H100", 16))]
    assert links == [200e9, 450e9, 50e9]
    links = [targets.find("H100", 16, 2).link(16, 2), targets.find("v5e").network, targets.find("H100").network]
    assert links == [450e9, 3.125e9, 50e9]
    assert targets.find("v5e", 512, 2).topology(512, 2) == ("v5e:16x16", {"num_slices": 2})
    assert targets.find("H100", 16, 2).topology(16, 2)[1]["topology"] == "1x2x8"
    assert targets.find("v5e").title(256) == "TPU v5e x256 (compiled)"
    assert targets.find("v5e").title(512, 2) == "TPU v5e x512 in 2 slices (compiled)"
    for name, chips, message in (
        ("v9", 1, "unknown target 'v9'; targets: v5e, v5p"),
        ("v5e", 3, "a power of two up to 256"),
    ):
        with pytest.raises(UserError, match=message):
            targets.find(name, chips)
    for chips, slices, message in (
        (6, 4, "do not make 4 slices"),
        (512, 1, "up to 256"),
        (4, 2, "has 4 devices at least"),
    ):
        with pytest.raises(UserError, match=message):
            targets.find("v5e", chips, slices)
