"""What this process may use: the cgroup with the tightest limit, of either version, or the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.machine import Machine
from support.descriptors import no_descriptor_left

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path


def member_of(root: Path, *lines: str) -> None:
    (root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))


def test_memory_and_cpu_are_those_of_the_cgroup_with_a_limit(root: Path) -> None:
    member_of(root, "0::/service/inner")
    group = root / "sys/fs/cgroup/service"
    write(group / "inner", memory__max="max")
    write(group, memory__max=1_000_000, memory__current=700_000, memory__stat="anon 5\ninactive_file 200000")
    write(group, cpu__max="150000 100000", cpu__stat="usage_usec 1000000")
    machine = Machine(root)
    memory = machine.memory()
    assert (memory.total, memory.used, memory.scope) == (1_000_000, 500_000, "cgroup")
    assert machine.cpu_ratio(now=0.0) == (0.0, "cgroup")
    write(group, cpu__stat="usage_usec 2500000")
    assert machine.cpu_ratio(now=2.0) == (0.5, "cgroup")


def test_of_several_limits_the_tightest_counts(root: Path) -> None:
    member_of(root, "0::/slice/service")
    group = root / "sys/fs/cgroup/slice"
    write(
        group,
        memory__max=1_000_000,
        memory__current=900_000,
        cpu__max="50000 100000",
        cpu__stat="usage_usec 0",
    )
    write(group / "service", memory__max=9_000_000, memory__current=1, cpu__max="400000 100000")
    machine = Machine(root)
    assert machine.memory().total == 1_000_000
    machine.cpu_ratio(now=0.0)
    write(group, cpu__stat="usage_usec 500000")
    assert machine.cpu_ratio(now=1.0) == (1.0, "cgroup")


def test_without_a_limit_it_is_the_host(root: Path) -> None:
    machine = Machine(root)
    memory = machine.memory()
    assert memory.scope == "host"
    assert 0 < memory.used < memory.total
    assert machine.cpu_ratio()[1] == "host"


@pytest.mark.parametrize("own", ["/", "/docker/abc"])
def test_the_old_cgroup_interface_is_read_too(root: Path, own: str) -> None:
    """In a container the group that /proc names cannot be seen: its files are those at the top."""
    member_of(root, f"7:memory:{own}", f"4:cpu,cpuacct:{own}")
    write(
        root / "sys/fs/cgroup/memory",
        memory__limit_in_bytes=1_000_000,
        memory__usage_in_bytes=400_000,
        memory__stat="total_inactive_file 100000",
    )
    cpu = root / "sys/fs/cgroup/cpu"
    write(cpu, cpu__cfs_quota_us=200_000, cpu__cfs_period_us=100_000, cpuacct__usage=0)
    machine = Machine(root)
    memory = machine.memory()
    assert (memory.total, memory.used, memory.scope) == (1_000_000, 300_000, "cgroup")
    assert machine.cpu_ratio(now=0.0) == (0.0, "cgroup")
    write(cpu, cpuacct__usage=1_000_000_000)
    assert machine.cpu_ratio(now=1.0) == (0.5, "cgroup")


def test_the_old_interface_on_a_host_is_read_in_our_own_group(root: Path) -> None:
    member_of(
        root, "7:memory:/system.slice/runner", "4:cpu:/system.slice/runner", "3:cpuacct:/system.slice/runner"
    )
    top = root / "sys/fs/cgroup"
    write(top / "memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=5)
    own = top / "memory/system.slice/runner"
    write(own, memory__limit_in_bytes=2_000_000, memory__usage_in_bytes=1_000_000, memory__stat="x 1")
    write(top / "cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100_000)
    write(top / "cpu/system.slice/runner", cpu__cfs_quota_us=100_000, cpu__cfs_period_us=100_000)
    write(top / "cpuacct/system.slice/runner", cpuacct__usage=0)
    machine = Machine(root)
    assert (machine.memory().total, machine.memory().scope) == (2_000_000, "cgroup")
    machine.cpu_ratio(now=0.0)
    write(top / "cpuacct/system.slice/runner", cpuacct__usage=250_000_000)
    assert machine.cpu_ratio(now=1.0) == (0.25, "cgroup")


def test_the_old_interface_without_limits_is_the_host(root: Path) -> None:
    member_of(root, "7:memory:/", "4:cpu,cpuacct:/")
    top = root / "sys/fs/cgroup"
    write(top / "memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=5)
    write(top / "cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100_000, cpuacct__usage=1)
    machine = Machine(root)
    assert machine.memory().scope == "host"
    assert machine.cpu_ratio()[1] == "host"


def test_the_process_knows_itself() -> None:
    use = Machine().process()
    assert use.rss_bytes >= use.rss_anon_bytes > 0
    assert use.open_fds >= 3
    assert use.threads >= 1


def test_without_a_free_descriptor_the_last_numbers_stand(root: Path) -> None:
    """Most of them are files; whoever asks is as often as not the one who tells that descriptors run out."""
    for machine in (Machine(), a_cgroup(root)):
        machine.cpu_ratio(now=0.0)
        memory, (cpu, scope), use = machine.memory(), machine.cpu_ratio(now=1.0), machine.process()
        with no_descriptor_left():
            assert machine.memory() == memory
            assert machine.cpu_ratio(now=2.0) == (cpu, scope)
            left = machine.process()
            assert (left.rss_bytes, left.cpu_s) == (use.rss_bytes, use.cpu_s)


def a_cgroup(root: Path) -> Machine:
    member_of(root, "0::/service")
    group = root / "sys/fs/cgroup/service"
    write(group, memory__max=1_000_000, memory__current=700_000, memory__stat="inactive_file 0")
    write(group, cpu__max="150000 100000", cpu__stat="usage_usec 1000000")
    return Machine(root)
