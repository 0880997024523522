"""What is told on the terminal, in 80 columns: each program with its largest kernels, and a line for each at the end."""

from __future__ import annotations

from benchmarks.compile.report import Report
from benchmarks.compile.schedule import SPILLS

UNITS = ("MXU", "XLU", "VALU", "EUP", "VLOAD", "VSTORE", "SALU")
"""Shown of each kernel: products, rolls and transposes, vector, exp and tanh, loads, stores, scalars; then spills."""


def show_report(name: str, report: Report, batch: int | None = None, top: int = 8) -> None:
    """What is known of one function that `examine` has compiled. batch: spectra of a call, for the bound."""
    line = {
        "case": name,
        "device": report.target.title(report.chips, report.slices),
        "error": None,
        **report.fields(batch),
    }
    show_program(line, top)
    show_lines([line])


def show_program(line: dict, top: int) -> None:
    """The largest kernels of a program: on a TPU by cycles, on a GPU by bytes. Or why there is none."""
    title = " of ".join(filter(None, (line["case"], line.get("preset"))))
    if line["error"]:
        print(f"\n{title}, {line['device']}: {line['error']}", flush=True)
        return
    print(f"\n{title}, {line['device']}, compiled in {line['compile_s']:,.0f} s")
    counted, moved = line["counted_flops"], line["moved_bytes"]
    print(f"  {amount(counted)}FLOP counted, {amount(line['product_flops'])}FLOP in its products", end="")
    print("; what its kernels do inside is not known" if line["opaque_kernels"] else "", end="")
    print(f"\n  {amount(moved)}B moved, {line['padding_share']:.0%} of it padding", end="")
    staged = line["staged_bytes"] / moved if moved else 0.0
    print(f", {staged:.0%} by copies to and from the chip" if staged else "")
    memory, chip = line["memory_bytes"], line["chip_memory_bytes"]
    whole = f" of {amount(chip)}B" if chip else ""
    print(f"  memory: arguments {amount(memory['arguments'])}B, temporary {amount(memory['temporary'])}B{whole}")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(line["instructions"].items()))
    print(f"  {kinds}: {line['launches']:,} launches")
    if line["collectives"]:
        for kind, (size, sent) in line["collectives"].items():
            print(f"  {kind}: {amount(size)}B, {amount(sent)}B sent by each device")
    if line["unknown_loops"]:
        print(f"  loops that run as the data says: {line['unknown_loops']}, counted once (? in a kernel)")
    if line["unscheduled_kernels"]:
        print(f"  cycles of {line['unscheduled_kernels']} kernels are missing: no schedule of theirs was found")
    rows = line["kernels"][:top]
    if line["cycles"]:
        _tpu_kernels(rows, line["cycles"])
    elif rows:
        _gpu_kernels(rows, moved)


def _tpu_kernels(rows: list[dict], cycles: int) -> None:
    heads = " ".join(f"{unit[:4]:>4}" for unit in ("all", *UNITS, "fill"))
    print(f"  {'cycles':>9} {heads}  kernel")
    for row in rows:
        use = row["use"]
        spills = max((use.get(unit, 0.0) for unit in SPILLS), default=0.0)
        shares = (row["cycles"] / cycles, *(use.get(unit, 0.0) for unit in UNITS), spills)
        count = amount(row["cycles"]).strip() + ("" if row["known"] else " ?")
        print(f"  {count:>9} {' '.join(f'{share:4.0%}' for share in shares)}  {name(row, 22)}")


def _gpu_kernels(rows: list[dict], moved: float) -> None:
    print(f"  {'bytes':>9} {'share':>5} {'regs':>5} {'spill':>5} {'shared':>7} {'threads':>7} {'fills':>5}  kernel")
    for row in rows:
        fills = "-" if row["occupancy"] is None else f"{row['occupancy']:.0%}"
        threads = row["threads"] or "-"
        print(
            f"  {amount(row['bytes']) + 'B':>9} {row['bytes'] / max(moved, 1):5.0%} {row['registers']:5} "
            f"{row['spill_bytes']:5} {row['shared_bytes']:7} {threads:>7} {fills:>5}  {name(row, 24)}"
        )


LIMITS = ("cycles", "memory", "arithmetic", "link", "network")


def show_lines(lines: list[dict]) -> None:
    """The programs of each device side by side: what each limit asks for alone, and what the largest allows."""
    for device in dict.fromkeys(line["device"] for line in lines):
        print(f"\n{device}: the least time of a call by each limit alone")
        rows = [("program", *LIMITS, "spectra/s", "bound by")]
        for line in (line for line in lines if line["device"] == device):
            if line["error"]:
                rows.append((line["case"], *["-"] * (len(LIMITS) + 1), "error"))
                continue
            speed = line["bound_spectra_per_s"]
            limits = (amount_of_time(line["bound_seconds"].get(limit)) for limit in LIMITS)
            rows.append((line["case"], *limits, f"{speed:,.0f}" if speed else "-", line["bound_by"] or "-"))
        print_rows(rows)


COMPARED = {
    "bound_spectra_per_s": "spectra/s, bound",
    "cycles": "cycles",
    "moved_bytes": "bytes moved",
    "padding_share": "padding, share",
    "counted_flops": "FLOP, counted",
    "product_flops": "FLOP, products",
    "peak_memory_bytes": "memory, bytes",
    "launches": "launches",
    "compile_s": "compilation, s",
}


def show_comparison(before: list[dict], after: list[dict]) -> None:
    """Quantities of the same programs at two commits, with their ratio."""
    for old, new in zip(before, after, strict=True):
        print(f"\n{new['case']} of {new['preset']}, {new['device']}")
        rows = [("", old["commit"] or "before", "now", "now / before")]
        for field, title in COMPARED.items():
            one, other = old.get(field), new.get(field)
            if one is None and other is None:
                continue
            ratio = f"{other / one:.2f}" if one and other is not None else "-"
            rows.append((title, amount(one).strip(), amount(other).strip(), ratio))
        print_rows(rows)


def print_rows(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  " + "  ".join(cells).rstrip())


def name(row: dict, width: int) -> str:
    """A kernel's name, and how often it runs."""
    times = f" x{row['times']}" if row["times"] > 1 else ""
    own = row["name"]
    return (own if len(own) + len(times) <= width else f"{own[: width - len(times) - 1]}~") + times


def amount(value: float | None) -> str:
    """A number in three digits with its prefix: 27.7 M, 1.05 G."""
    if value is None:
        return "- "
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5 or prefix == "T":
            break
        value /= 1000
    return f"{value:.3g} {prefix}"


def amount_of_time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    unit, scale = next((each for each in (("s", 1), ("ms", 1e3), ("us", 1e6)) if seconds * each[1] >= 1), ("us", 1e6))
    return f"{seconds * scale:.3g} {unit}"
