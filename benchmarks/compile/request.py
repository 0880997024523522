"""What is asked of a process that compiles."""

from __future__ import annotations

from typing import NamedTuple

PROGRAMS = ("step", "epoch", "inference")


class Request(NamedTuple):
    """What is asked of one process: a program of a preset for a target. batch: of each chip. slices: that the chips are in.
    fsdp: chips that share parameters out."""

    program: str
    preset: str
    target: str = "v5e"
    chips: int = 1
    batch: int = 1024
    length: int = 144
    dtype: str = "bfloat16"
    small: bool = False
    kernels: str = "auto"
    slices: int = 1
    fsdp: int = 1
