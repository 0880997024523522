import os
import subprocess
import sys

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
