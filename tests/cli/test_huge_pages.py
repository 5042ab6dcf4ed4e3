"""A process restarts with huge pages, once, and only if the system supports them."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fer_jax.runtime import huge_pages

SETTINGS = ":".join(huge_pages._SETTINGS)
SHOW = """
import os, sys
from fer_jax.runtime import huge_pages
{patch}
print("begun", flush=True)
huge_pages.restart()
print(os.environ.get("GLIBC_TUNABLES", "none"), sys.argv[1:], os.getpid())
"""


@pytest.mark.parametrize(
    ("tunables", "useful", "begun", "left"),
    [
        (None, True, 2, SETTINGS),
        ("glibc.malloc.mxfast=64", True, 2, f"{SETTINGS}:glibc.malloc.mxfast=64"),
        ("glibc.malloc.hugetlb=0", True, 1, "glibc.malloc.hugetlb=0"),
        (None, False, 1, "none"),
    ],
)
def test_a_process_restarts_once(tunables, useful, begun, left):
    script = SHOW.format(patch=f"huge_pages._useful = lambda: {useful}")
    environment = {name: value for name, value in os.environ.items() if name != huge_pages.VARIABLE}
    if tunables:
        environment[huge_pages.VARIABLE] = tunables
    process = subprocess.Popen(
        [sys.executable, "-c", script, "a b", "--c"], env=environment, stdout=subprocess.PIPE
    )
    lines = process.communicate()[0].decode().splitlines()
    assert lines == ["begun"] * begun + [f"{left} ['a b', '--c'] {process.pid}"]


@pytest.mark.parametrize(
    ("libc", "kernel", "useful"),
    [
        (("glibc", "2.36"), "always [madvise] never", True),
        (("glibc", "2.36"), "[always] madvise never", False),
        (("glibc", "2.36"), None, False),
        (("glibc", "2.31"), "always [madvise] never", False),
        (("", ""), "always [madvise] never", False),
    ],
)
def test_huge_pages_need_glibc_and_kernel_support(tmp_path, monkeypatch, libc, kernel, useful):
    setting = tmp_path / "enabled"
    if kernel:
        setting.write_text(kernel)
    monkeypatch.setattr(huge_pages, "_KERNEL", setting)
    monkeypatch.setattr(huge_pages.platform, "libc_ver", lambda: libc)
    monkeypatch.setattr(huge_pages.sys, "platform", "linux")
    assert huge_pages._useful() is useful


def test_glibc_accepts_the_settings():
    if platform.libc_ver()[0] != "glibc" or not huge_pages._useful():
        pytest.skip("not a glibc with large pages")
    loaded = Path("/proc/self/maps").read_text().split()
    (loader,) = {path for path in loaded if "/ld-linux" in path or "/ld64" in path}
    environment = huge_pages.wanted({})
    told = subprocess.run(
        [loader, "--list-tunables"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    for setting in huge_pages._SETTINGS:
        name, value = setting.split("=")
        assert re.search(rf"^{name}: {int(value):#x} ", told.replace(": 0 ", ": 0x0 "), re.M)


STOPPED = """
import runpy, sys
from fer_jax.runtime import huge_pages
huge_pages.restart = lambda: sys.exit("jax" if "jax" in sys.modules else "before jax")
runpy.run_module("fer_jax.{name}", run_name="__main__")
"""


@pytest.mark.parametrize("name", ["main", "predict", "serve"])
def test_commands_restart_before_they_import_jax(name):
    found = subprocess.run(
        [sys.executable, "-c", STOPPED.format(name=name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stderr.strip() == "before jax"
