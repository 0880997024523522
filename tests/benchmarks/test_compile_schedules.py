"""What compilers say of their kernels: cycles and units of a TPU's, registers and occupancy of a GPU's."""

import pytest

from benchmarks.compile import ptx, schedule, twins
from tests.benchmarks.programs import TPU, fused, program

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
