"""Programs compiled for chips that are not there, and what the compilers say of them: see docs/accelerators.md.

    from benchmarks.compile.examine import examine
    report = examine(function, jax.ShapeDtypeStruct((1024, 144), "bfloat16"), target="v5e")
    report.cycles, report.traffic.bytes, report.bound.binds

Imports nothing: the command has to say that no chip is asked for before JAX is loaded.
"""
