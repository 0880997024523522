"""Programs whose work is known, compiled for chips where their compilers are installed; and one that does not fit."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

from benchmarks.compile import isolate, targets
from benchmarks.compile.examine import examine, too_large
from data_pipelines.errors import UserError

GUIDE = isolate.ROOT / "docs" / "accelerators.md"


def shape(*sizes: int, dtype: str = "bfloat16") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def scan_of_seven(x: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=7)[0]


def _double(x, y) -> None:
    y[...] = 2 * x[...]


def test_programs_whose_work_is_known_compiled_for_a_tpu(compiler):
    """A 2048-cube takes four units of 128 x 128 2^17 cycles; the schedule is a lower bound, good to a quarter."""
    compiler("v5e")
    report = examine(lambda a, b: a @ b, shape(2048, 2048), shape(2048, 2048))
    assert report.traffic.bytes == 3 * 2 * 2048**2 and report.traffic.flops == 2 * 2048**3
    assert 0.7 < report.cycles / 2**17 < 1.05 and all(kernel.known for kernel in report.kernels)
    # Of 16 tiles of the depth each register of the result comes out of a multiplier once.
    assert max(kernel.filled["VPOP"] for kernel in report.kernels) == 16 * 2048**2 // 1024
    # Over a grid of eight tiles: each of their registers is stored once.
    tile = pl.BlockSpec((256, 128), lambda i: (i, 0))
    tiled = shape(8 * 256, 128, dtype="float32")
    doubled = pl.pallas_call(_double, grid=(8,), in_specs=[tile], out_specs=tile, out_shape=tiled)
    (kernel,) = (each for each in examine(doubled, tiled).kernels if each.filled["VALU"] > 200)
    assert kernel.filled["VSTORE"] == 8 * 256 // 8
    # The same twice is one kernel to the compiler, and runs twice.
    tables, rows = [shape(2**20, 256, dtype="float32")] * 2, [shape(6400, dtype="int32")] * 2
    pair = examine(lambda x, y, i, j: (2 * x[i], 2 * y[j]), *tables, *rows)
    assert pair.calls["gather_fusion"] + pair.calls["gather_fusion.1"] == 2 and pair.unscheduled == 0
    assert not {"gather_fusion", "gather_fusion.1"} <= {kernel.name for kernel in pair.kernels}
    gathered = examine(lambda x, i: x[i], shape(2**21, 256, dtype="float32"), shape(64, dtype="int32"))
    assert gathered.traffic.bytes == pytest.approx(2 * 4 * 64 * 256, rel=0.02)
    # Given up, the first state is changed in place; kept, it is copied.
    for donate, passes in ((0, 7), ((), 8)):
        scanned = examine(scan_of_seven, shape(2**14, 4096, dtype="float32"), donate=donate)
        assert scanned.traffic.bytes == pytest.approx(passes * 2 * 4 * 2**26, rel=0.02)
        assert scanned.traffic.unknown_loops == 0
    with pytest.raises(UserError, match=r"and TPU v5e has [\d.]+; --batch \d+ would fit$"):
        examine(lambda x: jnp.cumsum(x, 0) @ x, shape(2**17, 2**17), batch=1024)


def test_the_kernel_in_the_guide_is_judged_as_it_says(compiler, capsys):
    compiler("v5e")
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(compile(code, str(GUIDE), "exec"), names)
    report = names["report"]
    # In and out of memory once, and the weights.
    assert report.traffic.bytes == 2 * 2 * 2**20 * 128 + 2 * 128**2 and report.bound.binds == "memory"
    assert report.traffic.opaque_kernels == 1 and "1 kernels" in capsys.readouterr().out


def test_programs_whose_work_is_known_compiled_for_a_gpu(compiler):
    compiler("H100")
    report = examine(lambda a, b: jnp.tanh(a @ b), shape(1024, 1024), shape(1024, 1024), target="H100")
    assert report.traffic.bytes == 3 * 2 * 1024**2 and report.traffic.flops == 2 * 1024**3 and report.cycles is None
    assert [kernel.threads > 0 and kernel.registers > 0 for kernel in report.kernels] == [True]
    assert report.calls == {report.kernels[0].name: 1}
    with pytest.raises(UserError, match=r"needs 105\.0 GB of memory, and NVIDIA H100 has 84\.9$"):
        examine(lambda x: x + 1, shape(int(105e9) // 4), target="H100")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (64.00G) exceeds "
            "available HBM (16.00G).",
            "needs 68.7 GB of memory, and TPU v5e has 17.2; --batch 256 would fit",
        ),
        ("RESOURCE_EXHAUSTED: memory space hbm. Used 32.00G of 16.00G hbm. Exceeded", "--batch 512 would fit"),
        ("RESOURCE_EXHAUSTED: Ran out of memory in vmem. Size 20.00M and limit 16.00M", None),
        ("INTERNAL: (64.00G) exceeds available HBM (16.00G)", None),
    ],
)
def test_only_a_complaint_about_the_chips_memory_is_put_in_our_words(message, said):
    found = too_large(RuntimeError(message), targets.find("v5e"), 1024)
    assert found is None if said is None else said in str(found)
