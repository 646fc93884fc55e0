"""Disks that are full soon."""

from __future__ import annotations

import contextlib
import os
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, size):
    """Make `folder` a disk of its own that holds `size` (as mount has it: 4k, 24m); or skip."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder.mkdir()
    with _mounted(folder, ["-t", "tmpfs", "-o", f"size={size}", "popq-test"]):
        yield folder


@contextlib.contextmanager
def locked(folder):
    """Let nobody write into a folder and what is in it, not even root; or skip."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    there = str(folder)
    with _mounted(folder, ["--bind", there], ["-o", "remount,bind,ro", there]):
        yield folder


@contextlib.contextmanager
def _mounted(folder, *steps):
    """Mount over `folder` as the steps say, one after the other; or skip."""
    for options in steps:
        mount = ["mount", *options, str(folder)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing may be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
