"""What is read of a machine, on machines that are directories."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import pytest

from runner.tune import facts
from runner.tune.cgroup import Cgroup
from support.machines import CONNTRACK, bare_host, container, tree

if TYPE_CHECKING:
    from pathlib import Path


def read(root: Path) -> facts.Facts:
    return facts.read(root, is_synchronized=lambda: True)


def test_a_bare_host_is_read_whole(tmp_path: Path) -> None:
    it = read(bare_host(tmp_path, CONNTRACK))
    assert (it.open_files, it.processes, it.container, it.systemd) == (524_288, 96_365, None, True)
    assert it.words("net.ipv4.ip_local_port_range") == (32_768, 60_999)
    assert it.number("net.netfilter.nf_conntrack_max") == 262_144
    assert it.cgroup == Cgroup(pids=9000)
    assert it.memory_bytes == 8 * 2**30
    assert it.commit_left_bytes == 8 * 2**30 - 100_000 * 1024
    assert (it.huge_pages, it.swap_bytes, it.clock_synchronized) == ("madvise", 0, True)
    assert it.capabilities == {"net_admin", "sys_admin", "sys_resource"}


def test_of_the_environment_only_the_allocators_variables_are_kept(tmp_path: Path) -> None:
    assert read(bare_host(tmp_path)).environ == {"MALLOC_ARENA_MAX": "2"}


def test_a_container_may_write_no_sysctl_and_knows_what_it_is(tmp_path: Path) -> None:
    it = read(container(tmp_path))
    assert (it.container, it.systemd, it.capabilities) == ("docker", False, frozenset())
    assert it.sysctls
    assert not it.writable
    assert it.cgroup == Cgroup(memory_bytes=2 * 2**30, cpus=1.0)


@pytest.mark.parametrize(
    ("mark", "text", "name"),
    [
        ("run/.containerenv", "", "podman"),
        ("run/systemd/container", "lxc\n", "lxc"),
        ("var/run/secrets/kubernetes.io/serviceaccount/token", "t", "kubernetes"),
        ("proc/1/cgroup", "0::/kubepods/pod1\n", "kubernetes"),
        ("proc/1/cgroup", "1:name=systemd:/docker/0123\n", "docker"),
    ],
)
def test_each_kind_of_container_is_known_by_its_mark(tmp_path: Path, mark: str, text: str, name: str) -> None:
    assert read(tree(bare_host(tmp_path), {mark: text})).container == name


def test_the_tightest_limit_above_a_group_counts(tmp_path: Path) -> None:
    bare_host(tmp_path)
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b/c\n",
            "sys/fs/cgroup/a/memory.max": "1000\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
            "sys/fs/cgroup/a/b/c/memory.max": "5000\n",
            "sys/fs/cgroup/a/b/memory.high": "900\n",
            "sys/fs/cgroup/a/pids.max": "77\n",
            "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/a/b/c/cpu.max": "max 100000\n",
        },
    )
    assert read(tmp_path).cgroup == Cgroup(1000, 900, 77, 1.5)


def test_the_old_cgroup_interface_is_read_too(tmp_path: Path) -> None:
    bare_host(tmp_path)
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "8:pids:/job\n4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "3000\n",
            "sys/fs/cgroup/pids/job/pids.max": "64\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert read(tmp_path).cgroup == Cgroup(3000, None, 64, 0.5)


def test_services_that_start_the_runner_are_found_by_what_they_start(tmp_path: Path) -> None:
    tree(
        bare_host(tmp_path),
        {
            "etc/systemd/system/whatsapp.service": "[Service]\nExecStart=/opt/venv/bin/python -m runner\n",
            "etc/systemd/system/other.service": "[Service]\nExecStart=/usr/bin/other\n# /runner\n",
        },
    )
    assert read(tmp_path).units == ("whatsapp.service",)


def test_an_empty_machine_is_read_without_an_error(tmp_path: Path) -> None:
    it = facts.read(tmp_path, is_synchronized=lambda: None)
    assert (it.sysctls, it.limits_seen, it.memory_bytes, it.huge_pages) == ({}, False, None, None)


def test_this_machine_is_read_and_another_process_too() -> None:
    own, by_pid = facts.read(), facts.read(pid=os.getpid())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert own.open_files == by_pid.open_files == (None if hard == resource.RLIM_INFINITY else hard)
    assert own.memory_bytes is not None
    assert own.clock_synchronized in {True, False}
