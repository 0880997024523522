"""What a compiled program moves, computes and exchanges, read from small texts."""

import pytest

from benchmarks.compile.hlo import read_arrays
from benchmarks.compile.traffic import Collective, count
from tests.benchmarks.programs import TPU, fused, program


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
    assert found.collectives == [Collective("all-reduce", size, 1.5 * size), Collective("all-gather", 2 * size, size)]
    assert found.kinds == {"collectives": 2} and found.bytes == 2 * size + 3 * size


def test_exchanges_between_slices_are_told_apart():
    entry = (
        "  %x = f32[8,128] parameter(0)\n"
        "  %a = f32[8,128] all-reduce(%x), replica_groups=[2,2]<=[2,2]T(1,0), to_apply=%sum\n"
        "  %b = f32[8,128] all-reduce(%a), replica_groups={{0,1},{2,3}}, to_apply=%sum\n"
        "  %c = f32[8,128] all-reduce(%b), replica_groups=[2,2]<=[4], to_apply=%sum\n"
        "  ROOT %p = f32[8,128] collective-permute(%c), source_target_pairs={{0,1},{1,2}}"
    )
    text = program(entry)
    assert [each.far for each in count(text, slices=2).collectives] == [True, False, False, True]
    assert not any(each.far for each in count(text).collectives)


def test_what_a_tpu_hands_to_its_host_for_other_slices_is_an_exchange_and_a_part_of_one_is_none():
    handler = '_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_transfer_type="ALL_REDUCE"'
    entry = (
        "  %x = f32[8,128] parameter(0)\n"
        "  %t = token[] after-all()\n"
        "  %s = (f32[8,128], u32[], token[]) send(%x, %t), channel_id=2, "
        f"is_host_transfer=true, frontend_attributes={{{handler}}}\n"
        "  %d = token[] send-done(%s)\n"
        "  %f = f32[16,128] fusion(%x), kind=kLoop, calls=%part\n"
        "  ROOT %g = f32[16,128] fusion(%x), kind=kLoop, calls=%other"
    )
    gather = "all-gather(%p), channel_id=7, replica_groups=[1,2]<=[2], dimensions={0}"
    body = f"  %p = f32[8,128]{{1,0:T(8,128)}} parameter(0)\n  ROOT %NAME = f32[16,128] {gather}"
    parts = "".join(fused(name, body.replace("NAME", f"g.{name}")) for name in ("part", "other"))
    found = count(program(entry, parts), slices=4).collectives
    size = 4 * 8 * 128
    assert found == [("all-reduce", size, 1.5 * size, True), ("all-gather", 2 * size, size, False)]


def test_a_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        count("HloModule x\n")
