"""Processes that see files of ours in the place of their control group's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def inside(files: dict[str, str], folder: Path) -> tuple[str, ...]:
    """Return a command in front of another, for which these are the files of its cgroup."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    mount = f'mount --bind {folder} /sys/fs/cgroup && exec "$@"'
    words = "unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh"
    if subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("this user may not put other files in place of the cgroup's")
    return words


def said(code: str, *before: str) -> str:
    """Return what Python prints, behind another command if there is one."""
    environment = {k: v for k, v in os.environ.items() if k != "LOKY_MAX_CPU_COUNT"}
    words = [*before, sys.executable, "-c", code]
    ended = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return ended.stdout.strip()
