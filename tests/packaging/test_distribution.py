"""What a user installs is whole: built as a release is, installed where the checkout cannot help out."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", "*.so", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "build", "dist", "tests"
)


def run(*command: str | Path, cwd: Path) -> str:
    # Neither the checkout nor the user may lend a module.
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    result = subprocess.run(
        [*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=110
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source distribution, and a wheel that was built from it: as a package index would have them."""
    work = tmp_path_factory.mktemp("build")
    source, out = work / "source", work / "dist"
    shutil.copytree(CHECKOUT, source, symlinks=True, ignore=NOT_SOURCE)
    # The environment's own setuptools where it is new enough, so that no network is needed.
    newer = int(importlib.metadata.version("setuptools").split(".")[0]) >= 77
    run(
        sys.executable,
        "-m",
        "build",
        *(["--no-isolation"] if newer else []),
        "--outdir",
        out,
        source,
        cwd=work,
    )
    [sdist], [wheel] = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel, which borrows the dependencies of this one."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False, symlinks=True)
    run(
        sys.executable, "-m", "pip", "--python", home / "bin/python", "--disable-pip-version-check",
        "install", "--no-deps", "--no-index", distributions[1], cwd=home,
    )  # fmt: skip
    paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
    # A plain path: an editable install of the checkout within it stays without effect.
    Path(paths["purelib"], "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return home


def test_the_wheel_has_all_that_runs_and_nothing_else(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = wheel.namelist()
        assert wheel.read("cache/schema.sql") == (CHECKOUT / "schema.sql").read_bytes()
    modules = {
        str(path.relative_to(CHECKOUT))
        for top in ("cache", "mirror")
        for path in (CHECKOUT / top).rglob("*.py")
    }
    assert modules <= set(names)
    assert {"cache/py.typed", "mirror/py.typed", "mirror/keeper/_channel.pyi"} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"cache", "mirror", "mirrorfs"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_source_distribution_can_be_built_without_the_checkout(distributions: tuple[Path, Path]) -> None:
    """The wheel of these tests was built from it; here, that the schema in it is a file of its own."""
    with tarfile.open(distributions[0]) as sdist:
        [schema] = [
            member
            for member in sdist.getmembers()
            if member.name.endswith("/schema.sql") and member.name.count("/") == 1
        ]
        assert schema.isfile()


def test_modules_schema_and_c_part_load_from_the_installed_package(installed: Path) -> None:
    code = (
        "import importlib.resources, cache, mirror.keeper._channel as channel\n"
        "print(cache.__file__)\n"
        "print(channel.__file__)\n"
        "print(importlib.resources.files('cache') / 'schema.sql')\n"
    )
    for line in run(installed / "bin/python", "-c", code, cwd=installed).splitlines():
        assert Path(line).is_relative_to(installed)
        assert Path(line).is_file()


def test_a_cache_is_made_by_the_installed_schema(installed: Path, tmp_path: Path) -> None:
    code = (
        "import trio, cache, pathlib\n"
        "async def main():\n"
        "    async with cache.Cache.open(pathlib.Path('made')) as store:\n"
        "        print((await store.tree.root('https://example.org/')).id)\n"
        "trio.run(main)\n"
    )
    assert int(run(installed / "bin/python", "-c", code, cwd=tmp_path)) > 0
    assert (tmp_path / "made" / "index.sqlite").is_file()


def test_the_command_is_installed(installed: Path, tmp_path: Path) -> None:
    version = run(installed / "bin/mirror", "--version", cwd=tmp_path)
    assert version.startswith("mirror ")
    assert "doctor" in run(installed / "bin/mirror", "--help", cwd=tmp_path)
