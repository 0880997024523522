"""What compilers say of programs, read from small texts; and, where they are installed, of programs that are known."""

import json
import re
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

from benchmarks import measure
from benchmarks.compile import __main__ as command
from benchmarks.compile import isolate, ptx, schedule, table, targets, twins
from benchmarks.compile.bound import bound, fitting_batch
from benchmarks.compile.examine import examine, too_large
from benchmarks.compile.hlo import read_arrays
from benchmarks.compile.request import Request
from benchmarks.compile.revision import checkout
from benchmarks.compile.traffic import Collective, count
from benchmarks.history import commit
from benchmarks.peaks import DATA_SHEETS
from data_pipelines.errors import MissingExtra, UserError
from spt_jax.runs.targets import TARGETS as PRODUCT

GUIDE = isolate.ROOT / "docs" / "accelerators.md"
HEAD = "HloModule jit_f, is_scheduled=true, num_partitions=4\n\n"
TPU = "{1,0:T(8,128)}"


def program(entry: str, before: str = "") -> str:
    return f"{HEAD}{before}\nENTRY %main (x: f32[8,128]) -> f32[8,128] {{\n{entry}\n}}\n"


def fused(name: str, body: str) -> str:
    return f"%{name} (p: f32[8,128]) -> f32[8,128] {{\n{body}\n}}\n\n"


@pytest.mark.parametrize(
    ("text", "size", "padded"),
    [
        ("f32[1024,48]{1,0:T(8,128)}", 4 * 1024 * 48, 4 * 1024 * 128),
        ("f32[1024,48]{0,1:T(8,128)}", 4 * 1024 * 48, 4 * 1024 * 48),
        ("bf16[3,5,200]{2,1,0:T(8,128)(2,1)}", 2 * 3 * 5 * 200, 2 * 3 * 8 * 256),
        ("bf16[3,5,200]{2,0,1:T(8,128)(2,1)S(1)}", 2 * 3 * 5 * 200, 2 * 5 * 8 * 256),
        ("pred[64]{0:T(512)(128)(4,1)}", 64, 512),
        ("f32[1024,48]{1,0}", 4 * 1024 * 48, 4 * 1024 * 48),
        ("s4[16]", 8, 8),
        ("f8e4m3fn[16]{0}", 16, 16),
        ("s32[]{:T(128)}", 4, 4),  # a number by itself lies among the scalars
    ],
)
def test_an_array_takes_whole_tiles(text, size, padded):
    (array,) = read_arrays(text)
    assert (array.bytes, array.padded) == (size, padded)


def test_an_elementwise_pass_reads_and_writes_once_with_its_padding():
    body = f"  %p = f32[64,48]{TPU} parameter(0)\n  ROOT %m = f32[64,48]{TPU} multiply(%p, %p)"
    entry = f"  %x = f32[64,48]{TPU} parameter(0)\n  ROOT %f = f32[64,48]{TPU} fusion(%x), kind=kLoop, calls=%c"
    found = count(program(entry, fused("c", body)))
    assert found.bytes == 2 * 4 * 64 * 128 and found.padding == 2 * 4 * 64 * 80
    assert found.kinds == {"fusions": 1} and found.launches == {"f": 1} and found.flops == 0


def test_a_product_reads_its_operands_through_fusions_in_the_fusion_and_what_lies_on_the_chip_is_free():
    a, on_chip = "bf16[512,256]{1,0:T(8,128)(2,1)}", "bf16[256,128]{1,0:T(8,128)(2,1)S(1)}"
    view = f"  %v = {a} parameter(0)\n  ROOT %b = {a} bitcast(%v)"
    body = (
        f"  %p = {a} parameter(0)\n  %q = {on_chip} parameter(1)\n"
        f"  %w = {a} fusion(%p), kind=kLoop, calls=%view\n"
        "  ROOT %d = f32[512,128]{1,0:T(8,128)} convolution(%w, %q), dim_labels=bf_io->bf"
    )
    entry = (
        f"  %x = {a} parameter(0)\n  %y = bf16[256,128]{{1,0:T(8,128)(2,1)}} parameter(1)\n"
        f"  %s = ({on_chip}, bf16[256,128]{{1,0:T(8,128)(2,1)}}, u32[]{{:S(2)}}) copy-start(%y)\n"
        f"  %e = {on_chip} copy-done(%s)\n"
        "  ROOT %f = f32[512,128]{1,0:T(8,128)} fusion(%x, %e), kind=kOutput, calls=%c\n"
        f"  %again = ({on_chip}, bf16[256,128]{{1,0:T(8,128)(2,1)}}, u32[]{{:S(2)}}) copy-start(%y)\n"
        f"  %unused = {on_chip} copy-done(%again)"
    )
    found = count(program(entry, fused("view", view) + fused("c", body)))
    assert found.moved == {"f": 2 * 512 * 256 + 4 * 512 * 128, "s": 2 * 256 * 128, "again": 0}
    assert found.flops == 2 * 512 * 256 * 128 and found.staged == 2 * 256 * 128


def test_a_batch_of_products_as_a_dilated_window_is_counted_once():
    """As the compiler of a TPU writes it: of 64 x 64 pairs of batches only the 64 equal ones meet."""
    entry = (
        "  %x = bf16[64,256,128]{2,1,0} parameter(0)\n  %y = bf16[64,128,32]{2,1,0} parameter(1)\n"
        "  ROOT %d = bf16[64,256,32]{2,1,0} convolution(%x, %y), window={size=64 stride=63 lhs_dilate=64}, "
        "dim_labels=0bf_0io->0bf"
    )
    assert count(program(entry)).flops == 64 * 2 * 256 * 128 * 32
    entry = (
        "  %x = f32[8,256]{1,0} parameter(0)\n  %y = f32[256,16]{1,0} parameter(1)\n"
        "  ROOT %d = f32[8,16]{1,0} dot(%x, %y), lhs_contracting_dims={1}, rhs_contracting_dims={0}"
    )
    assert count(program(entry)).flops == 2 * 8 * 256 * 16


GATHER = (
    f"  %p = f32[100000,256]{TPU} parameter(0)\n  %i = s32[64]{{0:T(128)}} parameter(1)\n"
    f"  ROOT %g = f32[64,256]{TPU} gather(%p, %i), offset_dims={{1}}, slice_sizes={{1,256}}"
)


@pytest.mark.parametrize("inside", [True, False], ids=["in a fusion", "by itself"])
def test_a_gather_counts_the_rows_that_it_fetches(inside):
    entry = f"  %x = f32[100000,256]{TPU} parameter(0)\n  %n = s32[64]{{0:T(128)}} parameter(1)\n"
    if inside:
        entry += f"  ROOT %f = f32[64,256]{TPU} fusion(%x, %n), kind=kCustom, calls=%c"
    else:
        entry += f"  ROOT %f = f32[64,256]{TPU} gather(%x, %n), offset_dims={{1}}"
    found = count(program(entry, fused("c", GATHER)))
    assert found.bytes == 2 * 4 * 64 * 256 + 4 * 128


@pytest.mark.parametrize("inside", [True, False], ids=["in a fusion", "by itself"])
def test_an_update_in_place_counts_the_update(inside):
    start = "s32[] parameter(2)"
    body = (
        f"  %p = f32[9000,128]{TPU} parameter(0)\n  %u = f32[16,128]{TPU} parameter(1)\n  %i = {start}\n"
        f"  ROOT %d = f32[9000,128]{TPU} dynamic-update-slice(%p, %u, %i, %i)"
    )
    entry = body.replace("%p", "%x").replace("%u", "%y").replace("%i", "%n")
    if inside:
        entry = entry[: entry.index("  ROOT")] + f"  ROOT %f = f32[9000,128]{TPU} fusion(%x, %y, %n), calls=%c"
    found = count(program(entry, fused("c", body)))
    assert found.bytes == pytest.approx(2 * 4 * 16 * 128, abs=4)
    kept = body.replace("ROOT %d", "%d") + f"\n  ROOT %m = f32[9000,128]{TPU} add(%d, %p)"
    entry = f"  %x = f32[9000,128]{TPU} parameter(0)\n  %y = f32[16,128]{TPU} parameter(1)\n  %n = {start}\n"
    entry += f"  ROOT %f = f32[9000,128]{TPU} fusion(%x, %y, %n), calls=%c"
    assert count(program(entry, fused("c", kept))).bytes == pytest.approx(4 * 128 * (2 * 9000 + 16), abs=4)


LOOP = """%body (t: (s32[], f32[64,128])) -> (s32[], f32[64,128]) {
  %t = (s32[]{:T(128)}, f32[64,128]{1,0:T(8,128)}, s32[]) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%t), index=0
  %one = s32[]{:T(128)} constant(2)
  %next = s32[]{:T(128)} add(%i, %one)
  %limit = s32[] get-tuple-element(%t), index=2
  %c = f32[64,128]{1,0:T(8,128)} get-tuple-element(%t), index=1
  %n = f32[64,128]{1,0:T(8,128)} tanh(%c)
  ROOT %r = (s32[]{:T(128)}, f32[64,128]{1,0:T(8,128)}, s32[]) tuple(%next, %n, %limit)
}

%less (a: s32[], b: s32[]) -> pred[] {
  %a = s32[] parameter(0)
  %b = s32[] parameter(1)
  ROOT %lt = pred[] compare(%a, %b), direction=LT
}

%condition (t: (s32[], f32[64,128])) -> pred[] {
  %s = (s32[]{:T(128)}, f32[64,128]{1,0:T(8,128)}, s32[]) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%s), index=0
  %l = s32[]{:T(128)} get-tuple-element(%s), index=2
  ROOT %done = pred[] fusion(%j, %l), kind=kLoop, calls=%less
}
"""
AROUND = """  %x = f32[64,128]{1,0:T(8,128)} parameter(0)
  %zero = s32[] constant(1)
  %last = s32[] LAST
  %start = (s32[], f32[64,128]{1,0:T(8,128)}, s32[]) tuple(%zero, %x, %last)
  %w = (s32[], f32[64,128]{1,0:T(8,128)}, s32[]) while(%start), condition=%condition, body=%bodyMORE
  ROOT %y = f32[64,128]{1,0:T(8,128)} get-tuple-element(%w), index=1"""


@pytest.mark.parametrize(
    ("last", "more", "rounds"),
    [
        ("constant(10)", "", 5),  # 1, 3, 5, 7, 9
        ("parameter(1)", "", None),
        ("parameter(1)", ', backend_config={"known_trip_count":{"n":"7"},"x":1}', 7),
    ],
)
def test_the_body_of_a_loop_counts_as_often_as_it_runs(last, more, rounds):
    found = count(program(AROUND.replace("LAST", last).replace("MORE", more), LOOP))
    # The counter is a number of its own in memory: 4 bytes in a tile.
    assert found.moved["n"] == (rounds or 1) * 2 * 4 * 64 * 128
    assert found.launches["n"] == (rounds or 1) and found.unknown_loops == (rounds is None)


def test_of_a_conditional_the_larger_branch_is_taken():
    small = "  %p = f32[8,128] parameter(0)\n  ROOT %n = f32[8,128] negate(%p)"
    large = "  %p = f32[8,128] parameter(0)\n  %q = f32[8,128] sine(%p)\n  ROOT %n = f32[8,128] cosine(%q)"
    entry = (
        "  %x = f32[8,128] parameter(0)\n  %k = s32[] parameter(1)\n"
        "  ROOT %c = f32[8,128] conditional(%k, %x, %x), branch_computations={%small, %large}"
    )
    found = count(program(entry, fused("small", small) + fused("large", large)))
    assert found.bytes == 4 * 4 * 8 * 128 and found.launches == {"q": 1, "n": 1}


def test_a_kernel_counts_operands_and_results_and_a_note_nothing():
    entry = (
        "  %x = f32[8,128] parameter(0)\n"
        '  %k = (f32[8,128], s32[128]) custom-call(%x, %x), custom_call_target="tpu_custom_call", backend_config={"body":"(a"}\n'
        "  %g = f32[8,128] get-tuple-element(%k), index=0\n"
        '  ROOT %n = f32[8,128] custom-call(%g), custom_call_target="AssumeGatherIndicesInBound"'
    )
    found = count(program(entry))
    assert found.bytes == 3 * 4 * 8 * 128 + 4 * 128 and found.opaque_kernels == 1 and found.kinds == {"kernels": 1}


def test_exchanges_count_what_each_device_sends():
    entry = (
        "  %x = f32[8,128] parameter(0)\n"
        "  %a = f32[8,128] all-reduce(%x), replica_groups=[1,4]<=[4], to_apply=%sum\n"
        "  %s = (f32[8,128], f32[16,128]) all-gather-start(%a), replica_groups={{0,1},{2,3}}, dimensions={0}\n"
        "  ROOT %d = f32[16,128] all-gather-done(%s)"
    )
    found = count(program(entry))
    size = 4 * 8 * 128
    assert found.collectives == [("all-reduce", size, 1.5 * size), Collective("all-gather", 2 * size, size)]
    assert found.kinds == {"collectives": 2} and found.bytes == 2 * size + 3 * size


def test_a_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        count("HloModule x\n")


BUNDLES = """= control target key start
LB: loop body
= control target key end

     0   :  { %s9_s9 = smov 0 /* copy for cssa */ } /* entry bundle: %k = fusion(%x) */
   0x1 LB: > { %s1_s1 = sphi %s9_s9, %s2_s2 } /* Start region 76 :: Start region 25 */
   0x2   : > { %s8_s8 = smov 2 /* copy for cssa */ }
   0x3 LB: >> { %s3_s3 = sphi %s8_s8, %s4_s4 } /* Start region 61 */
   0x4   : >> { %s4_s4 = sadd.s32 2, %s3_s3  ;;  %p4 = scmp.ge.s32.totalorder %s4_s4, 8 /* loop exit test */ }
   0x5   : > { %v2 = vld [vmem:[%s1]] (%p4) /*hbm=
a line of its own */ }
   0x6   : > { %9 = sbr.rel (!%p4) target = $region61 }
   0x7   : >> { %v1 = vmov %v2 }
   0x8   :  {}
   0x9   :  {}
   0xa   :  {}
   0xb   : > { %s2_s2 = sadd.s32 1, %s1_s1 }
   0xc   : > { %p5 = scmp.ge.s32.totalorder %s2_s2, 10 /* loop exit test */ }
   0xd   :  { %11 = sbr.rel (!%p5) target = $region76 }
   0xe   :  {}
   0xf   :  {}
  0x10   :  {}
  0x11   :  {}
  0x12   :  { %v3 = vmov %v1 }
"""
SLOTS = "== CAPACTIY:\nMXU, VLOAD, VSTORE:SPILL\n    4     3     1\n== UTILIZATION:\n" + "1 2 0\n" * 18 + "0 3 1\n"


def test_a_schedule_counts_its_bundles_as_often_as_they_are_issued():
    """10 rounds of 2 + 7 bundles and of 3 rounds (2, 4, 6 to 8) of 8, whatever depth their marks show."""
    kernel = schedule.read_kernel("k", BUNDLES, SLOTS)
    assert kernel.cycles == 2 + 10 * (2 + 7 + 3 * 8) and kernel.known
    assert kernel.filled == {"MXU": kernel.cycles - 1, "VLOAD": 2 * (kernel.cycles - 1) + 3, "VSTORE:SPILL": 1}
    assert kernel.use()["VLOAD"] == pytest.approx(2 / 3, rel=1e-2)
    # Guarded so, the first and the last round only copy, and the kernel computes in the eight between.
    guards = "%p6 = scmp.ge.s32.totalorder %s1_s1, 1  ;;  %p7 = scmp.lt.s32.totalorder %s1_s1, 9 "
    guarded = BUNDLES.replace("{ %s8_s8 = smov 2 /* copy for cssa */ }", "{ %s8_s8 = smov 2 ;; " + guards + "}")
    assert schedule.read_kernel("k", guarded, SLOTS).cycles == 2 + 8 * (2 + 7 + 3 * 8)
    unknown = schedule.read_kernel("k", BUNDLES.replace("%s4_s4, 8", "%s4_s4, %s70"), SLOTS)
    assert unknown.cycles == 2 + 10 * (2 + 7 + 8) and not unknown.known
    whole = schedule.read_kernel(schedule.WHOLE, BUNDLES, None)
    assert (whole.cycles, whole.known, whole.use()) == (19, True, {})


def test_a_folder_of_schedules_is_read_by_kernel(tmp_path):
    for name in ("1795-fusion.1", "1796-fusion.12", "1796-<late-[0]>"):
        (tmp_path / f"{name}-02-final_bundles.txt").write_text(BUNDLES)
        (tmp_path / f"{name}-01-schedule-analysis_final_bundles.txt").write_text("a summary")
    (tmp_path / "1795-fusion.1-00-final_hlo-static-per-bundle-utilization.txt").write_text(SLOTS)
    kernels = {kernel.name: bool(kernel.slots) for kernel in schedule.read_folder(tmp_path)}
    assert kernels == {"fusion.1": True, "fusion.12": False, "<late-[0]>": False}


def test_what_is_the_same_but_for_names_has_one_kernel():
    """Names, order and where it was written do not matter; shapes, layouts, constants and a kernel's own text do."""
    body = (
        f"  %pN = f32[8,128]{TPU} parameter(0)\n  %kN = f32[] constant(FACTOR)\n"
        f'  %bN = f32[8,128]{TPU} broadcast(%kN), dimensions={{}}, metadata={{op_name="N"}}\n'
        f"  ROOT %mN = f32[8,128]{TPU} multiply(%pN, %bN)"
    )
    computations = "".join(
        fused(f"c{number}", body.replace("N", number).replace("FACTOR", factor))
        for number, factor in ("12", "22", "35")
    )
    calls = [f"  %x = f32[8,128]{TPU} parameter(0)", f"  %s = f32[8,128]{TPU[:-1]}S(1)}} parameter(1)"]
    for name, operand, number in (("a", "x", 1), ("b", "a", 2), ("other", "b", 3), ("near", "s", 2)):
        more = f'metadata={{op_name="{name}" id=1}}, backend_config={{"at":{{"{name}":1}}}}'
        calls.append(f"  %{name} = f32[8,128]{TPU} fusion(%{operand}), kind=kLoop, calls=%c{number}, {more}")
    for name, text in (("mine", "x"), ("same", "x"), ("yours", "y")):
        more = (
            f'custom_call_target="tpu_custom_call", metadata={{op_name="{name}"}}, backend_config={{"body":"{text}"}}'
        )
        calls.append(f"  {'ROOT ' * (name == 'yours')}%{name} = f32[8,128]{TPU} custom-call(%a), {more}")
    text = program("\n".join(calls), computations)
    called = ["a", "b", "other", "near", "mine", "same", "yours"]
    found = twins.owners(text, called, {"a", "other", "mine", "TLP"})
    assert found == {"a": "a", "b": "a", "other": "other", "mine": "mine", "same": "mine"}


PTXAS = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'loop_add_fusion' for 'sm_90a'
ptxas info    : Function properties for loop_add_fusion
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 14 registers, used 0 barriers
ptxas info    : Compiling entry function 'gemm' for 'sm_90a'
ptxas info    : Function properties for gemm
    16 bytes stack frame, 24 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes smem
"""
THUNKS = """001: kCustomKernel [source  | next=002 (1)] gemm grid: [64, 2, 1] threads: [256, 1, 1]  shared_memory: 102400 bytes
002: kCopy         [prev=001 (1) | next=004 (2)] kCopy
"""


def test_what_ptxas_says_becomes_occupancy():
    launches = ptx.read_launches(THUNKS)
    body = ".visible .entry loop_add_fusion(\n)\n.reqntid 128, 1, 1\n"
    add, gemm = ptx.read_ptxas(PTXAS, launches, body)
    assert add == ("loop_add_fusion", 14, 0, 0, 128, None) and add.occupancy() == 1
    assert gemm == ("gemm", 255, 32, 102400, 256, 128)
    metadata = 'thunk_info {\n profile_annotation: "dot.3"\n thunk_id: 1\n }\n'
    assert ptx.read_owners(THUNKS, metadata + metadata.replace("3", "7")) == {"dot.3": "gemm", "dot.7": "gemm"}
    # 256 registers x 256 threads fill the file: one block of 256 threads of 2048.
    assert gemm.occupancy() == 256 / 2048
    # 100 KiB each: two blocks of the 228.
    assert gemm._replace(registers=32).occupancy() == 2 * 256 / 2048
    assert gemm._replace(threads=None).occupancy() is None


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
    assert targets.find("v5e").title(256) == "TPU v5e x256 (compiled)"
    for name, chips, message in (
        ("v9", 1, "unknown target 'v9'; targets: v5e, v5p"),
        ("v5e", 3, "a power of two up to 256"),
    ):
        with pytest.raises(UserError, match=message):
            targets.find(name, chips)


def test_bad_input_is_one_line(monkeypatch):
    with pytest.raises(SystemExit, match=r"^unknown preset 'huge'; presets: tiny, base"):
        command.main(["huge"])
    with pytest.raises(SystemExit, match=r"^unknown target 'v1'; targets: "):
        command.main(["--target", "v1"])
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(SystemExit, match=r"^for compiling for v5e, install the extra `aot-tpu`: .*'\.\[aot-tpu\]'$"):
        command.main([])
    monkeypatch.setattr(targets, "require", lambda target: None)
    with pytest.raises(SystemExit, match="no such commit"):
        command.main(["--compare", "no-such-commit"])


def test_a_limit_that_is_reached_is_one_line_and_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(targets, "require", lambda target: None)
    path = tmp_path / "results.jsonl"
    for option, value in (("--memory", "0.001"), ("--time", "0.1")):
        command.main(["--small", "--programs", "inference", option, value, "--json", str(path)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [re.sub(r"after .* s", "after", line["error"]) for line in lines] == [
        "stopped at its limit of 0.001 GB of memory after (--memory)",
        "stopped at its limit of 0.1 s (--time)",
    ]
    assert measure.key(lines[0])[:4] == ("compile", "inference", "base", "TPU v5e x1 (compiled)")
    assert all(line["error"] in capsys.readouterr().out for line in lines[:1])


def test_a_revision_is_compiled_by_todays_benchmark_and_leaves_nothing(tmp_path):
    if commit() is None:
        pytest.skip("no git here")
    with checkout("HEAD") as (tree, name):
        assert name == commit().rstrip("+") and (tree / "spt_jax" / "config.py").exists()
        ours = (isolate.ROOT / "benchmarks" / "compile" / "traffic.py").read_bytes()
        assert (tree / "benchmarks" / "compile" / "traffic.py").read_bytes() == ours
    assert not tree.exists()


FIELDS = {
    "error": None,
    "bound_spectra_per_s": 1000.0,
    "bound_seconds": {"memory": 1e-3},
    "bound_by": "memory",
    "commit": "abc",
}


def test_two_commits_stand_side_by_side(capsys):
    old = {"case": "step", "preset": "base", "device": "TPU v5e x1 (compiled)", **FIELDS, "moved_bytes": 9e9}
    new = {**old, "bound_spectra_per_s": 3000.0, "moved_bytes": 3e9}
    table.show_lines([old, {**old, "error": "too large"}])
    table.show_comparison([old, {**old, "error": "too large", "moved_bytes": None}], [new, new])
    text = capsys.readouterr().out
    assert re.search(r"bytes moved +9 G +3 G +0\.33\n", text) and re.search(r"bound +1 k +3 k +3\.00\n", text)
    assert re.search(r"bytes moved +- +3 G +-\n", text) and "error" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def compiler(name: str) -> None:
    try:
        targets.require(targets.find(name))
    except MissingExtra as error:
        pytest.skip(str(error))


def shape(*sizes: int, dtype: str = "bfloat16") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def scan_of_seven(x: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=7)[0]


def _double(x, y) -> None:
    y[...] = 2 * x[...]


def test_programs_whose_work_is_known_compiled_for_a_tpu():
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


def test_the_kernel_in_the_guide_is_judged_as_it_says(capsys):
    compiler("v5e")
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(compile(code, str(GUIDE), "exec"), names)
    report = names["report"]
    # In and out of memory once, and the weights.
    assert report.traffic.bytes == 2 * 2 * 2**20 * 128 + 2 * 128**2 and report.bound.binds == "memory"
    assert report.traffic.opaque_kernels == 1 and "1 kernels" in capsys.readouterr().out


def test_programs_whose_work_is_known_compiled_for_a_gpu():
    compiler("H100")
    report = examine(lambda a, b: jnp.tanh(a @ b), shape(1024, 1024), shape(1024, 1024), target="H100")
    assert report.traffic.bytes == 3 * 2 * 1024**2 and report.traffic.flops == 2 * 1024**3 and report.cycles is None
    assert [kernel.threads > 0 and kernel.registers > 0 for kernel in report.kernels] == [True]
    assert report.calls == {report.kernels[0].name: 1}
    with pytest.raises(UserError, match=r"needs 105\.0 GB of memory, and NVIDIA H100 has 84\.9$"):
        examine(lambda x: x + 1, shape(int(105e9) // 4), target="H100")


def test_the_command_records_a_preset(tmp_path, capsys):
    compiler("v5e")
    path = tmp_path / "results.jsonl"
    command.main(["tiny", "--small", "--target", "v5e", "--programs", "inference", "--json", str(path)])
    (line,) = [json.loads(text) for text in path.read_text().splitlines()]
    printed = capsys.readouterr().out
    assert line["error"] is None and line["counted_flops"] > 0 and line["bound_by"] in printed
    assert 0.8 < line["product_flops"] / line["counted_flops"] < 1.2
    assert line["small"] and set(measure.KEY) <= set(line)
    assert all(len(text) <= 80 for text in printed.splitlines())
    assert Request("inference", "tiny").program == line["case"]
