"""A process that begins again with large pages, once, and only where that is of use."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fer_jax import huge_pages

SHOW = """
import os, sys
from fer_jax import huge_pages
{patch}
print("begun", flush=True)
huge_pages.begin_again()
print(os.environ.get("GLIBC_TUNABLES", "none"), sys.argv[1:], os.getpid())
"""


@pytest.mark.parametrize(
    ("tunables", "useful", "begun", "left"),
    [
        (None, True, 2, "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.check=1", True, 2, "glibc.malloc.check=1:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", True, 1, "glibc.malloc.hugetlb=0"),
        (None, False, 1, "none"),
    ],
)
def test_a_process_begins_again_once(tunables, useful, begun, left):
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
def test_where_it_is_of_use(tmp_path, monkeypatch, libc, kernel, useful):
    setting = tmp_path / "enabled"
    if kernel:
        setting.write_text(kernel)
    monkeypatch.setattr(huge_pages, "_KERNEL", setting)
    monkeypatch.setattr(huge_pages.platform, "libc_ver", lambda: libc)
    monkeypatch.setattr(huge_pages.sys, "platform", "linux")
    assert huge_pages._useful() is useful
