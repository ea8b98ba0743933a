from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@options.verbosity
def doctor(**given: Any) -> int:
    """Check the installation: versions, devices, data sets, write access."""
    import importlib.metadata
    import os
    import platform
    import tempfile
    from pathlib import Path

    import torch

    from landscape import data as datasets
    from landscape.cli.output import Say
    from landscape.provenance import versions

    rows = [[name, version, ""] for name, version in versions().items()]
    failed = 0
    for package in ("torchvision", "pyhessian", "scipy", "matplotlib", "h5py", "pyautoattack"):
        try:
            rows.append([package, importlib.metadata.version(package), ""])
        except importlib.metadata.PackageNotFoundError:
            failed += 1
            rows.append([package, "missing", "pip install landscape-diagnostics again"])
    try:
        import torchvision  # noqa: F401
    except Exception as error:  # it fails in many ways beside a torch of another build
        failed += 1
        remark = "install torch and torchvision together from one index"
        rows.append(["torchvision import", f"fails: {str(error).splitlines()[0]}", remark])
    rows.append(["machine", f"{platform.machine()}, {os.cpu_count()} cores", platform.platform()])
    rows.append(["torch threads", str(torch.get_num_threads()), ""])
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(i)
            rows.append([f"cuda:{i}", found.name, f"{found.total_memory / 2**30:.0f} GiB"])
    else:
        rows.append(["cuda", "none", "measurements run on the CPU"])
    for folder, what in ((Path.cwd(), "this folder"), (Path(tempfile.gettempdir()), "temporary")):
        try:
            with tempfile.TemporaryFile(dir=folder):
                rows.append([f"write to {what}", "yes", str(folder)])
        except OSError as error:
            failed += 1
            rows.append([f"write to {what}", "NO", f"{folder}: {error.strerror}"])
    there = [s.name for s in datasets.status() if s.present]
    rows.append(["data sets", ", ".join(there) or "none", str(datasets.data_folder(None))])
    Say(**given).table("landscape doctor", ["what", "found", "remark"], rows)
    return 1 if failed else 0
