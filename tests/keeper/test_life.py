"""Starting and ending a mount: what is refused, what is left, and who may do what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from subprocess import PIPE

import pytest

from mirror import runtime
from mirror.errors import SetupError, UsageError
from mirror.keeper import client, launch
from tests.keeper.conftest import HERE, WORKER, Home, wait_for_end
from tests.support.namespace import apart
from tests.support.waiting import eventually

ROOT = HERE.parents[1]
"""The code under test is imported from here."""
FOREGROUND = """
import sys
from mirror.config import MountConfig
from mirror.keeper import launch
launch.run_foreground(MountConfig.from_json(sys.argv[1]), worker=sys.argv[2])
"""


def test_a_mount_comes_and_goes(home: Home) -> None:
    """Mounting returns when the mount answers; unmounting when mount, processes and socket are gone."""
    home.add(whole=10)
    started = home.start()
    assert started.warning is None
    status = home.status()
    assert status["keeper_pid"] == started.keeper_pid
    assert status["passthrough"] is True
    assert status["passthrough_reason"] is None
    client.unmount(home.config.mountpoint)
    assert home.gone()


def test_privileges_are_given_up(home: Home) -> None:
    """The keeper keeps only CAP_SYS_ADMIN, the worker nothing, and neither can gain any."""
    home.start()
    status = home.status()
    for pid, capabilities in ((status["keeper_pid"], 1 << 21), (status["worker_pid"], 0)):
        fields = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == capabilities
        assert int(fields["CapInh"], 16) == int(fields["CapAmb"], 16) == 0
        assert int(fields["CapBnd"], 16) == 1 << 21
        assert fields["NoNewPrivs"] == "1"


def test_the_status_socket_is_private(home: Home) -> None:
    """Only the same user, or root, can ask a keeper."""
    home.start()
    assert runtime.socket_path(home.config.mountpoint).stat().st_mode & 0o777 == 0o600


def test_a_warning_of_the_worker_reaches_the_launcher(make_home: Callable[..., Home]) -> None:
    """What the worker warns of while it starts is told to who started the mount."""
    assert make_home(misbehave="warn").start().warning == "the origin is slow"


@pytest.mark.parametrize(
    ("misbehave", "words"),
    [("fail", "the origin says no"), ("die", "exit code 1.*no strength left")],
)
def test_a_worker_that_cannot_start_leaves_nothing(
    make_home: Callable[..., Home], misbehave: str, words: str
) -> None:
    """A failed start gives its reason in one line, and nothing is left."""
    home = make_home(misbehave=misbehave)
    with pytest.raises(SetupError, match=words) as caught:
        home.start()
    assert "\n" not in str(caught.value)
    assert home.gone()


@pytest.mark.parametrize("wrong", ["missing", "a file", "not empty", "mounted"])
def test_a_bad_mountpoint_is_refused(home: Home, wrong: str) -> None:
    """A mountpoint that is missing, a file, not empty or taken is refused, with the next step."""
    if wrong == "missing":
        home.path.rmdir()
    elif wrong == "a file":
        home.path.rmdir()
        home.path.touch()
    elif wrong == "not empty":
        (home.path / "mine").touch()
    else:
        home.start()
    expected = {"missing": "does not exist", "a file": "not a folder", "mounted": "already mounted"}
    with pytest.raises(SetupError, match=expected.get(wrong, wrong)):
        home.start()
    if wrong == "not empty":
        (home.path / "mine").unlink()


def test_a_cache_inside_the_mountpoint_is_refused(home: Home) -> None:
    """The cache cannot lie where it would be covered by the mount."""
    with pytest.raises(UsageError, match="inside the mountpoint"):
        home.start(cache=str(home.path / "cache"))


def test_a_cache_on_fuse_is_refused(make_home: Callable[..., Home]) -> None:
    """A cache on a FUSE file system is refused, by the keeper too."""
    other = make_home()
    other.start()
    home = make_home(cache=str(other.path))
    with pytest.raises(SetupError, match="FUSE"):
        home.start()


def test_an_unknown_option_is_named(home: Home) -> None:
    """An unknown mount option is refused by name, before anything starts."""
    with pytest.raises(UsageError, match="'frobnicate'"):
        home.start(mount_options=("allow_other", "frobnicate"))


def test_options_reach_the_kernel(home: Home) -> None:
    """Usual mount options work, and those of safety are always on."""
    home.start(mount_options=("allow_other", "noexec", "fsname=a,b \\ c"))
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    (line,) = [line for line in lines if str(home.path) in line]
    for word in ("ro", "nosuid", "nodev", "noexec", "noatime", "default_permissions", "allow_other"):
        assert word in line.replace(" ", ",").split(",")
    mount = runtime.mount_at(home.path)
    assert mount is not None
    assert mount.source == "a,b \\ c"


def test_read_ahead_is_raised(home: Home) -> None:
    """The kernel reads further ahead in page-cached files than it does by default."""
    home.start(read_ahead_kb=2048)
    mount = runtime.mount_at(home.path)
    assert mount is not None
    assert Path(f"/sys/class/bdi/{mount.device}/read_ahead_kb").read_text().strip() == "2048"


def test_a_busy_mount_is_not_unmounted(home: Home) -> None:
    """Unmounting what is in use fails and says so; lazily it is detached and its readers go on."""
    home.add(whole=100_000)
    home.start()
    with (home.path / "whole").open("rb") as file:
        with pytest.raises(SetupError, match="busy"):
            client.unmount(home.config.mountpoint)
        assert file.read(10) == (home.files / "whole").read_bytes()[:10]
    client.unmount(home.config.mountpoint)


@contextmanager
def another_namespace(*command: str) -> Iterator[int]:
    """A process in a mount namespace of its own, for as long as this context lasts."""
    env = {name: value for name, value in os.environ.items() if name != "MIRROR_RUNTIME"}  # not of the mount
    holder = subprocess.Popen([*command, "sh", "-c", "echo; exec cat"], stdin=PIPE, stdout=PIPE, env=env)
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        holder.stdout.readline()
        yield holder.pid
        holder.stdin.close()


def test_a_mount_that_another_namespace_has_as_well(home: Home) -> None:
    """Its keeper serves it until the last copy is gone; unmounting says who has it."""
    keeper = home.start().keeper_pid
    with another_namespace("unshare", "--mount") as holder:
        with pytest.raises(SetupError, match=rf"another mount namespace, that of process {holder} \("):
            client.unmount(home.config.mountpoint, timeout=0.1)
        assert not home.mounted
        assert home.processes()
    wait_for_end(keeper)
    assert home.gone()


def test_a_mount_that_another_namespace_has_is_detached_lazily_at_once(home: Home) -> None:
    """Lazily means without waiting for whoever has it."""
    keeper = home.start().keeper_pid
    with another_namespace("unshare", "--mount"):
        lives_on = client.unmount(home.config.mountpoint, lazy=True, timeout=0.1)
        assert lives_on is not None
        assert "in another mount namespace" in lives_on
    wait_for_end(keeper)
    assert home.gone()


def test_a_mount_that_is_bound_elsewhere(home: Home) -> None:
    """Unmounting says where it still is."""
    keeper = home.start().keeper_pid
    elsewhere = home.folder / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["mount", "--bind", home.path, elsewhere], check=True)
    try:
        with pytest.raises(SetupError, match=f"still mounted on {elsewhere}:"):
            client.unmount(home.config.mountpoint, timeout=0.1)
    finally:
        subprocess.run(["umount", elsewhere], check=True)
    wait_for_end(keeper)
    assert home.gone()


def test_namespaces_of_tests_hold_no_mount(home: Home) -> None:
    """What runs in one does not keep a mount of another test alive."""
    home.start()
    with another_namespace(*apart()):
        client.unmount(home.config.mountpoint)
        assert home.gone()


def test_a_mount_with_another_runtime_folder(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is well: nobody is told to end it."""
    home.start()
    with monkeypatch.context() as elsewhere:
        other = home.folder / "other"
        elsewhere.setenv("MIRROR_RUNTIME", str(other))
        with pytest.raises(
            SetupError, match=f"no status socket in {other}: .* another MIRROR_RUNTIME"
        ) as caught:
            home.status()
        assert "unmount" not in str(caught.value)
    assert home.status()["worker_restarts"] == 0


def test_a_worker_that_hangs_does_not_hang_who_looks_at_its_mount(home: Home) -> None:
    """It is not dead, its status is known, and it can be unmounted."""
    home.start()
    worker = home.status()["worker_pid"]
    os.kill(worker, signal.SIGSTOP)
    try:
        looks = (
            "from pathlib import Path\n"
            "from mirror.cli.folders import resolved\n"
            "from mirror.keeper import mountpoint\n"
            f"place = resolved(Path({str(home.path)!r}))\n"
            "print(place, mountpoint.is_dead(str(place)))"
        )
        said = subprocess.run(
            [sys.executable, "-c", looks], capture_output=True, text=True, check=True, timeout=30, cwd=ROOT
        ).stdout
        assert said == f"{home.path} False\n"
        assert home.status()["worker_pid"] == worker
        # The keeper has the patience of some seconds, then kills it; it answers for whoever looked and ended.
        eventually(partial(_unmounted, home), "nobody uses it any more")
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)
    assert home.gone()


def _unmounted(home: Home) -> bool:
    """Unmount; False: somebody uses it."""
    try:
        client.unmount(home.config.mountpoint)
    except SetupError as exc:
        if "busy" not in str(exc):
            raise
        return False
    return True


def test_a_stale_mount_is_cleared(home: Home) -> None:
    """What a crashed keeper left is detached by the next mount, which says so, or by unmount."""
    for clear in (home.start, lambda: client.unmount(home.config.mountpoint)):
        if not home.mounted:
            home.start()
        keeper = home.status()["keeper_pid"]
        worker = home.status()["worker_pid"]
        os.kill(keeper, signal.SIGKILL)
        wait_for_end(keeper)
        wait_for_end(worker)
        with pytest.raises(SetupError, match="mirror unmount"):
            home.status()
        started = clear()
        if isinstance(started, launch.Started):
            assert started.warning is not None
            assert "stale" in started.warning
    assert home.gone()


def test_an_aborted_connection_leaves_no_mount(home: Home) -> None:
    """When an administrator aborts the connection, the keeper clears the mount away and ends."""
    keeper = home.start().keeper_pid
    mount = runtime.mount_at(home.path)
    assert mount is not None
    control = home.folder / "connections"
    control.mkdir()
    subprocess.run(["mount", "-t", "fusectl", "fusectl", str(control)], check=True)
    try:
        (control / mount.device.partition(":")[2] / "abort").write_text("1")
    finally:
        subprocess.run(["umount", str(control)], check=True)
    wait_for_end(keeper)
    assert home.gone()


def test_unmounting_what_is_not_ours_is_refused(home: Home) -> None:
    """Unmount touches no mount of anyone else."""
    with pytest.raises(SetupError, match="not mounted by mirror"):
        client.unmount("/proc")
    with pytest.raises(SetupError, match="not mounted by mirror"):
        home.status()


def foreground(home: Home) -> subprocess.Popen[str]:
    """Start a keeper in the foreground, and wait for its one line."""
    config = replace(home.config, foreground=True)
    process = subprocess.Popen(
        [sys.executable, "-c", FOREGROUND, config.to_json(), WORKER],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    assert process.stderr is not None
    assert process.stderr.readline() == f"mirror: {config.source} is mounted on {config.mountpoint}\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_foreground_mount(home: Home, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM unmount, end both processes, and exit with 0."""
    home.add(whole=10)
    with foreground(home) as process:
        (home.path / "whole").read_bytes()
        process.send_signal(number)
        assert process.wait(30) == 0
    assert home.gone()


def test_a_signal_detaches_a_busy_mount(home: Home) -> None:
    """Ended by a signal while in use the mount is detached, and a complete file stays readable."""
    home.add(whole=100_000)
    with foreground(home) as process, (home.path / "whole").open("rb") as file:
        process.terminate()
        assert process.wait(30) == 0
        assert file.read() == (home.files / "whole").read_bytes()
        assert not home.mounted
    assert "in use" in home.log


def test_a_launcher_that_is_interrupted_leaves_nothing(make_home: Callable[..., Home]) -> None:
    """Ctrl-C on 'mirror mount' before the mount answers undoes all of it."""
    home = make_home(misbehave="hang")
    code = FOREGROUND.replace("run_foreground", "start")
    with subprocess.Popen(
        [sys.executable, "-c", code, home.config.to_json(), WORKER],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    ) as process:
        eventually(lambda: home.mounted, "it is mounted, and does not answer")
        process.send_signal(signal.SIGINT)
        process.wait(30)
    eventually(home.gone, "all of it is undone")


def _ended_by(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    process.send_signal(number)
    return process.poll() is not None


def test_a_reader_of_a_stuck_file_can_be_killed(home: Home) -> None:
    """Whoever waits for an origin that never answers ends at once when told to."""
    home.add(stuck=100_000)
    home.start()
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(
            [sys.executable, "-S", "-c", "import sys; open(sys.argv[1], 'rb').read()", home.path / "stuck"],
            stderr=subprocess.DEVNULL,
        ) as reader:
            eventually(lambda: home.counters()["requests_in_flight"] > 0, "the reader waits")
            # More than once, as a user would: Python may have taken the first one just before it read.
            eventually(partial(_ended_by, reader, number), "the reader ends")
            assert reader.returncode != 0


def test_timers_of_a_reader_do_not_disturb_it(home: Home) -> None:
    """A signal that does not end a program, such as a profiler's timer, makes no read fail."""
    home.add(plain=3_000_000)
    home.start()
    program = """if True:
        import signal, sys
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(20):
            with open(sys.argv[1], "rb", buffering=0) as file:
                while file.read(1 << 16):
                    pass
        signal.setitimer(signal.ITIMER_REAL, 0)
    """
    subprocess.run([sys.executable, "-S", "-c", program, str(home.path / "plain")], check=True, timeout=60)
    assert home.counters()["interrupted"] == 0
