"""Each judgement of the doctor on facts of machines that no test runs on, and the whole on this one."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mirror.doctor import (
    Finding,
    Verdict,
    examine,
    interpreter,
    kernel,
    limits,
    privileges,
    probe,
    storage,
    tools,
)
from mirror.doctor.probe import Registration
from mirror.runtime import parse_mountinfo


def judged(finding: Finding, verdict: Verdict, said: str) -> None:
    assert finding.verdict is verdict
    assert said in finding.seen
    if verdict is Verdict.WARN:
        assert finding.advice


@pytest.mark.parametrize(
    ("release", "verdict"),
    [
        ("6.18.44", Verdict.OK),
        ("6.9.0-rc1", Verdict.OK),
        ("7.0", Verdict.OK),
        ("10.1-x", Verdict.OK),
        ("6.8.12", Verdict.WARN),
        ("5.15.0-1-azure", Verdict.WARN),
    ],
)
def test_the_kernel_s_version(release: str, verdict: Verdict) -> None:
    judged(kernel.version(release), verdict, release)


@pytest.mark.parametrize(
    ("config", "verdict", "said"),
    [
        ("CONFIG_FUSE_FS=y\nCONFIG_FUSE_PASSTHROUGH=y\n", Verdict.OK, "built in"),
        ("CONFIG_FUSE_FS=y\n# CONFIG_FUSE_PASSTHROUGH is not set\n", Verdict.WARN, "built without"),
        ("XCONFIG_FUSE_PASSTHROUGH=y\n", Verdict.WARN, "built without"),
        (None, Verdict.OK, "unknown"),
    ],
)
def test_the_kernel_s_configuration(config: str | None, verdict: Verdict, said: str) -> None:
    judged(kernel.passthrough(config, "6.18.0"), verdict, said)


@pytest.mark.parametrize(
    ("error", "verdict", "said"),
    [
        (None, Verdict.OK, "opens"),
        (errno.ENOENT, Verdict.FAIL, "not there"),
        (errno.EACCES, Verdict.FAIL, "may not be opened"),
        (errno.EPERM, Verdict.FAIL, "may not be opened"),
        (errno.ENODEV, Verdict.FAIL, "no FUSE"),
        (errno.EIO, Verdict.FAIL, "cannot be opened"),
    ],
)
def test_the_device(error: int | None, verdict: Verdict, said: str) -> None:
    judged(kernel.device(error), verdict, said)


@pytest.mark.parametrize(
    ("options", "distribution", "verdict", "said"),
    [
        ("'--prefix=/opt' '--enable-optimizations'", False, Verdict.OK, "3.12.1"),
        ("'--prefix=/opt' '--with-lto'", False, Verdict.WARN, "without optimisation"),
        ("", False, Verdict.WARN, "without optimisation"),
        ("'--prefix=/usr'", True, Verdict.OK, "3.12.1"),
        (None, False, Verdict.OK, "3.12.1"),
    ],
)
def test_the_interpreter(options: str | None, distribution: bool, verdict: Verdict, said: str) -> None:
    judged(interpreter.python("3.12.1", options, distribution=distribution), verdict, said)


def test_the_interpreter_that_runs_is_read() -> None:
    version, options, distribution = interpreter.running()
    assert sys.version.startswith(version)
    assert options is None or "'" in options
    assert distribution == str(Path(sys.executable).resolve()).startswith("/usr/bin/")


@pytest.mark.parametrize(
    ("capabilities", "initial", "verdict", "said"),
    [
        (1 << 21, True, Verdict.OK, "initial user namespace"),
        (1 << 21, False, Verdict.WARN, "this user namespace only"),
        (0, True, Verdict.WARN, "no CAP_SYS_ADMIN"),
        ((1 << 41) - 1 & ~(1 << 21), True, Verdict.WARN, "no CAP_SYS_ADMIN"),
    ],
)
def test_privileges(capabilities: int, initial: bool, verdict: Verdict, said: str) -> None:
    judged(privileges.admin(capabilities, initial_namespace=initial), verdict, said)


@pytest.mark.parametrize(
    ("uid_map", "initial"),
    [
        ("         0          0 4294967295\n", True),
        ("0 1000 1\n", False),
        ("0 0 4294967294\n", False),
        ("0 100000 65536\n", False),
        ("", False),
    ],
)
def test_the_user_namespace(uid_map: str, initial: bool) -> None:
    assert privileges.in_initial_namespace(uid_map) is initial


def test_a_container_is_named() -> None:
    judged(privileges.container(None), Verdict.OK, "none seen")
    judged(privileges.container("a Docker container"), Verdict.OK, "Docker")


def test_what_is_installed() -> None:
    judged(tools.binding("3.5.0"), Verdict.OK, "3.5.0")
    judged(tools.binding(None, "libfuse3.so.3: cannot open"), Verdict.FAIL, "libfuse3.so.3")
    judged(tools.libfuse("3.14.0"), Verdict.OK, "3.14.0")
    judged(tools.libfuse("3.17.1-rc0"), Verdict.OK, "3.17.1")
    judged(tools.libfuse("3.9.9"), Verdict.FAIL, "3.9.9")
    judged(tools.libfuse(None), Verdict.FAIL, "libfuse3.so.3")
    judged(tools.libfuse(tools.libfuse_version()), Verdict.OK, "3.")
    judged(tools.fusermount("/usr/bin/fusermount3", "3.14", needed=True), Verdict.OK, "3.14")
    judged(tools.fusermount(None, None, needed=True), Verdict.FAIL, "not there")
    judged(tools.fusermount(None, None, needed=False), Verdict.OK, "root does not need it")


@pytest.mark.parametrize(
    ("conf", "root", "said"),
    [
        ("user_allow_other\n", False, "may be used"),
        ("#user_allow_other\n", False, "may not be used"),
        ("", True, "may be used"),
    ],
)
def test_allow_other(conf: str, root: bool, said: str) -> None:
    judged(tools.allow_other(conf, root=root), Verdict.OK, said)


def test_the_cache_folder() -> None:
    judged(storage.cache_folder(Path("/c"), None), Verdict.OK, "/c")
    judged(storage.cache_folder(Path("/c"), "no space is left"), Verdict.FAIL, "no space")


@pytest.mark.parametrize(
    ("kind", "verdict", "said"),
    [
        ("ext4", Verdict.OK, "ext4"),
        ("overlay", Verdict.OK, "depth 2"),
        ("tmpfs", Verdict.OK, "takes memory"),
        (None, Verdict.OK, "unknown"),
    ],
)
def test_the_file_system_of_the_cache(kind: str | None, verdict: Verdict, said: str) -> None:
    judged(storage.file_system(kind), verdict, said)


MOUNTINFO = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /mnt/a\040b rw shared:1 master:2 - xfs /dev/vdb rw
31 22 0:41 / /mnt rw - tmpfs none rw
32 22 0:42 / /over rw - ext4 /dev/vdc rw
33 32 0:43 / /over rw - overlay overlay rw
not a line
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/me", "ext4"),
        ("/mnt/x", "tmpfs"),
        ("/mnt/a b/cache", "xfs"),
        ("/mnt/a bc", "tmpfs"),
        ("/over", "overlay"),
    ],
)
def test_the_deepest_and_latest_mount_tells_the_file_system(folder: str, kind: str) -> None:
    assert storage.file_system_of(Path(folder), parse_mountinfo(MOUNTINFO)) == kind


def test_no_mounts_tell_nothing() -> None:
    assert storage.file_system_of(Path("/x"), []) is None


def test_a_folder_that_is_not_there_is_judged_by_the_one_above(tmp_path: Path) -> None:
    assert storage.nearest_folder(tmp_path / "a" / "b") == tmp_path


@pytest.mark.parametrize(
    ("hard", "verdict", "said"),
    [
        (20_000, Verdict.OK, "20,000"),
        (resource.RLIM_INFINITY, Verdict.OK, "unlimited"),
        (1024, Verdict.WARN, "1,024"),
    ],
)
def test_the_limit_of_open_files(hard: int, verdict: Verdict, said: str) -> None:
    judged(limits.open_files(hard), verdict, said)


@pytest.mark.parametrize(
    ("wmem_max", "root", "verdict"),
    [
        (4 << 20, False, Verdict.OK),
        (212_992, False, Verdict.WARN),
        (212_992, True, Verdict.OK),
        (None, False, Verdict.OK),
    ],
)
def test_the_socket_buffer(wmem_max: int | None, root: bool, verdict: Verdict) -> None:
    judged(limits.socket_buffer(wmem_max, root=root), verdict, "")


@pytest.mark.parametrize(
    ("outcome", "verdict", "said"),
    [
        (Registration(1), Verdict.OK, "depth 1"),
        (Registration(2), Verdict.OK, "depth 2"),
        (Registration(1, offered=False), Verdict.WARN, "does not offer"),
        (Registration(1, errno.EPERM), Verdict.WARN, "not permitted"),
        (Registration(2, errno.ELOOP), Verdict.WARN, "symbolic links"),
    ],
)
def test_the_outcome_of_the_probe(outcome: Registration, verdict: Verdict, said: str) -> None:
    judged(probe.passthrough(outcome), verdict, said)


def test_the_probe_leaves_no_mount_and_no_descriptor(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    outcome = probe.register(tmp_path)
    assert outcome.depth in {1, 2}
    assert "mirror-doctor" not in Path("/proc/self/mountinfo").read_text()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_cannot_be_probed() -> None:
    with pytest.raises(OSError):  # noqa: PT011  (each kernel has its own errno for it)
        probe.register(Path("/proc"))


def test_an_examination_answers_everything_and_changes_nothing(tmp_path: Path) -> None:
    findings = examine(tmp_path / "cache")
    names = [finding.check for finding in findings]
    assert len(set(names)) == len(names)
    assert {"kernel", "/dev/fuse", "privileges", "pyfuse3", "cache", "passthrough"} <= set(names)
    assert list(tmp_path.iterdir()) == []


def test_json_for_scripts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mirror.cli", "doctor", "--json", "--cache", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    findings = json.loads(result.stdout)
    assert {tuple(sorted(finding)) for finding in findings} == {("advice", "check", "seen", "verdict")}
    failed = any(finding["verdict"] == "fail" for finding in findings)
    assert result.returncode == (1 if failed else 0)


def test_a_folder_that_cannot_be_a_cache_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "mirror.cli", "doctor", "--cache", str(tmp_path / "file")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "fail" in result.stdout
