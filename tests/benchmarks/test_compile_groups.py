"""Which devices exchange: every way in which compilers say it."""

import pytest

from benchmarks.compile.groups import members_of


@pytest.mark.parametrize(
    ("rest", "groups"),
    [
        (", replica_groups={{0,1},{2,3}}, dimensions={0}", [[0, 1], [2, 3]]),
        (", replica_groups=[2,2]<=[4], to_apply=%sum", [[0, 1], [2, 3]]),
        (", replica_groups=[2,2]<=[2,2]T(1,0), to_apply=%sum", [[0, 2], [1, 3]]),
        (", replica_groups=mesh['a'=2,'b'=2] {'b'}, dimensions={0}", [[0, 1], [2, 3]]),
        (", replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}, dimensions={0}", [[0, 1], [2, 3]]),
        (", replica_groups=mesh['a'=2,'b'=2] {'a','b'}, dimensions={0}", [[0, 1, 2, 3]]),
        (", replica_groups=mesh['a'=4] {'a':(1)2}", [[0, 2], [1, 3]]),
        (", replica_groups=mesh['a'=4] {'a':(2)2}", [[0, 1], [2, 3]]),
        (", channel_id=1, source_target_pairs={{0,1},{1,0}}", [[0, 1], [1, 0]]),
        (", replica_groups={}, to_apply=%sum", [[0, 1, 2, 3]]),
        (", channel_id=1, to_apply=%sum", [[0, 1, 2, 3]]),
    ],
)
def test_groups(rest, groups):
    assert members_of(rest, 4) == groups


def test_another_way_is_no_guess():
    with pytest.raises(ValueError, match="not understood: replica_groups=<4>"):
        members_of(", replica_groups=<4>", 4)
