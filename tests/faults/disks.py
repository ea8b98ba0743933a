"""Small file systems in memory, where this user may mount them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def can_mount(scratch: Path) -> bool:
    folder = scratch / "mount"
    folder.mkdir(exist_ok=True)
    try:
        mount(folder, 65536)
    except (OSError, subprocess.CalledProcessError):
        return False
    unmount(folder)
    return True


def mount(folder: Path, size: int) -> None:
    """A tmpfs of so many bytes over ``folder``, with what was in it."""
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    for path, content in kept.items():
        path.write_bytes(content)


def enlarge(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True, capture_output=True)


def unmount(folder: Path) -> None:
    """If something is mounted there."""
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)
