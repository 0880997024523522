"""What is told on the terminal, in 80 columns: each program with its largest kernels, and a line for each at the end."""

from __future__ import annotations

from benchmarks.compile.schedule import SPILLS

UNITS = {"MXU": "products", "XLU": "rolls", "VALU": "vector", "EUP": "exp", "VLOAD": "loads", "VSTORE": "stores"}
SHOWN = (*UNITS, "SALU")


def show_program(line: dict, top: int) -> None:
    """The largest kernels of a program: on a TPU by cycles, on a GPU by bytes."""
    print(f"\n{line['case']} of {line['preset']}, {line['device']}, compiled in {line['compile_s']:,.0f} s")
    counted, moved = line["counted_flops"], line["moved_bytes"]
    print(f"  {amount(counted)}FLOP counted, {amount(line['product_flops'])}FLOP in its products", end="")
    print(f" (+ {line['opaque_kernels']} kernels, unknown)" if line["opaque_kernels"] else "", end="")
    print(f"; {amount(moved)}B moved, {line['padding_share']:.0%} of it padding")
    memory, chip = line["memory_bytes"], line["chip_memory_bytes"]
    whole = f" of {amount(chip)}B" if chip else ""
    print(f"  memory: arguments {amount(memory['arguments'])}B, temporary {amount(memory['temporary'])}B{whole}")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(line["instructions"].items()))
    print(f"  {kinds}: {line['launches']:,} launches")
    if line["collectives"]:
        print("  " + "; ".join(f"{kind} {amount(size)}B, {amount(sent)}B sent" for kind, (size, sent) in line["collectives"].items()))
    if line["unknown_loops"]:
        print(f"  {line['unknown_loops']} loops whose rounds hang on data: counted once, marked ?")
    rows = line["kernels"][:top]
    if line["cycles"]:
        _tpu_kernels(rows, line["cycles"])
    elif rows:
        _gpu_kernels(rows, moved)


def _tpu_kernels(rows: list[dict], cycles: int) -> None:
    print(f"  {'cycles':>9} {'share':>5} " + " ".join(f"{unit[:5]:>5}" for unit in SHOWN) + f" {'spill':>5}  kernel")
    for row in rows:
        use = row["use"]
        spills = max((use.get(unit, 0.0) for unit in SPILLS), default=0.0)
        shares = " ".join(f"{use.get(unit, 0.0):5.2f}" for unit in SHOWN)
        count = f"{amount(row['cycles'])}{'' if row['known'] else '?'}"
        print(f"  {count:>9} {row['cycles'] / cycles:5.0%} {shares} {spills:5.2f}  {name(row, 18)}")


def _gpu_kernels(rows: list[dict], moved: float) -> None:
    print(f"  {'bytes':>9} {'share':>5} {'regs':>5} {'spill':>5} {'shared':>7} {'threads':>7} {'fills':>5}  kernel")
    for row in rows:
        fills = "-" if row["occupancy"] is None else f"{row['occupancy']:.0%}"
        threads = row["threads"] or "-"
        print(
            f"  {amount(row['bytes']) + 'B':>9} {row['bytes'] / max(moved, 1):5.0%} {row['registers']:5} "
            f"{row['spill_bytes']:5} {row['shared_bytes']:7} {threads:>7} {fills:>5}  {name(row, 24)}"
        )


def show_lines(lines: list[dict]) -> None:
    """The programs side by side: what each limit allows alone, and which binds."""
    rows = [("program", "device", "cycles", "memory", "products", "link", "spectra/s", "bound by")]
    for line in lines:
        device = line["device"].removesuffix(" (compiled)")
        if line["error"]:
            rows.append((line["case"], device, *["-"] * 5, "error"))
            continue
        seconds = line["bound_seconds"]
        limits = (amount_of_time(seconds.get(limit)) for limit in ("cycles", "memory", "arithmetic", "link"))
        speed = line["bound_spectra_per_s"]
        rows.append((line["case"], device, *limits, f"{speed:,.0f}" if speed else "-", line["bound_by"] or "-"))
    print("\nThe least time of one call by each limit alone, and what the largest allows:")
    print_rows(rows)


def print_rows(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        print("  ".join(cells).rstrip())


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
