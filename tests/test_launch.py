import os
import subprocess
import sys

# Folding this constant takes longer than the second after which XLA writes to stderr how to file a bug.
SLOW = """
from spt_jax.launch import settle
settle()
import jax
sums = lambda: jax.lax.reduce_window(jax.lax.iota("float32", 1 << 12), 0.0, jax.lax.add, (512,), (1,), "SAME")
jax.jit(sums).lower().compile()
"""
PROGRAM = "from spt_jax.launch import settle; settle(); import os; print(os.environ['GLIBC_TUNABLES'], os.getpid())"


def test_the_process_starts_again_with_its_settings_and_leaves_the_users_alone():
    bare = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    for environment, expected in (
        (bare, "glibc.malloc.hugetlb=1"),
        ({**bare, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, "glibc.malloc.hugetlb=0"),
    ):
        if sys.platform != "linux" and environment is bare:
            continue
        process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True)
        found, pid = process.communicate(timeout=60)[0].split()
        assert (found, int(pid)) == (expected, process.pid)


def test_nothing_of_xla_reaches_the_user():
    environment = {
        k: v for k, v in os.environ.items() if k not in ("JAX_COMPILATION_CACHE_DIR", "TF_CPP_MIN_LOG_LEVEL")
    }
    done = subprocess.run([sys.executable, "-c", SLOW], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
