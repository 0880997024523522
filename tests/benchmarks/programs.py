"""Small programs as compilers for TPUs write them."""

HEAD = "HloModule jit_f, is_scheduled=true, num_partitions=4\n\n"
TPU = "{1,0:T(8,128)}"


def program(entry: str, before: str = "") -> str:
    return f"{HEAD}{before}\nENTRY %main (x: f32[8,128]) -> f32[8,128] {{\n{entry}\n}}\n"


def fused(name: str, body: str) -> str:
    return f"%{name} (p: f32[8,128]) -> f32[8,128] {{\n{body}\n}}\n\n"
