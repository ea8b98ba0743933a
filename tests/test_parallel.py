"""Several processes against one: the same numbers, whoever works on what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import landscape as ls
from landscape import parallel
from landscape.errors import ProcessError
from landscape.parallel import Group
from tests import divided

ROOT = Path(__file__).parent.parent
CHECKPOINT = ROOT / "checkpoints/digits-pgd-seed0.pt"


def torchrun(processes: int, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """Started by torchrun's own module, one thread each, in a session of its own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment |= options.pop("env", {})
    return subprocess.Popen(
        [*command, "--standalone", *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        **options,
    )


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return divided.everything()


@pytest.fixture(scope="module", params=[2, 3])
def together(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What every one of the processes has found."""
    folder = tmp_path_factory.mktemp("divided")
    run = torchrun(request.param, ROOT / "tests/divided.py", folder)
    _, said = run.communicate(timeout=600)
    assert run.returncode == 0, said
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


def test_numbers_are_those_of_one_process(
    alone: dict[str, Any], together: list[dict[str, Any]]
) -> None:
    numbers = {name: v for name, v in together[0].items() if not name.startswith("refused")}
    assert numbers.keys() == alone.keys()
    for name, value in numbers.items():
        if value is None:
            assert alone[name] is None
            continue
        expected = torch.as_tensor(alone[name])
        exact = {"rtol": 0, "atol": 0} if name.startswith("same") else {}
        if "vectors" in name or "shares" in name:
            exact = {"rtol": 1e-4, "atol": 1e-6}
        elif not exact:
            exact = {"rtol": 1e-6, "atol": 1e-9}
        torch.testing.assert_close(
            value, expected, equal_nan=True, msg=lambda text, n=name: f"{n}: {text}", **exact
        )


def test_every_process_has_the_whole_result(together: list[dict[str, Any]]) -> None:
    for other in together[1:]:
        assert other.keys() == together[0].keys()
        for name, value in other.items():
            if not isinstance(value, torch.Tensor):
                assert value == together[0][name]
            elif name != "same progress":  # is told at the end to those who don't collect
                torch.testing.assert_close(value, together[0][name], rtol=0, atol=0, equal_nan=True)


def test_what_cannot_be_divided_is_refused(together: list[dict[str, Any]]) -> None:
    assert "depends on the others in its batch" in together[0]["refused depends"]
    assert "1 samples can't be divided among" in together[0]["refused few"]


@pytest.mark.parametrize(("size", "count"), [(1, 5), (2, 5), (3, 5), (4, 3), (7, 100)])
def test_shares_cover_everything_once_and_differ_by_one(size: int, count: int) -> None:
    shares = [Group(rank, size).share(count) for rank in range(size)]
    covered = [i for start, end in shares for i in range(start, end)]
    assert covered == list(range(count))
    lengths = [end - start for start, end in shares]
    assert max(lengths) - min(lengths) <= 1


def test_one_process_alone_is_a_group() -> None:
    group = Group()
    assert group.first
    assert parallel.start().size == 1
    values = torch.arange(3.0)
    assert group.sum(values) is values
    assert group.join(values, 3) is values
    assert group.agree("a") == "a"
    assert group.failure() is None
    found: dict[int, int] = {}
    group.spread([3, 1, 2], lambda i: i * i, found.__setitem__)
    assert found == {3: 9, 1: 1, 2: 4}
    objective = ls.Objective(divided.mlp(4), [(torch.rand(4, 6), torch.tensor([0, 1, 2, 0]))])
    assert objective.shared() is objective


class Store(dict):  # type: ignore[type-arg]
    """What of a torch store a round needs."""

    def add(self, key: str, by: int) -> int:
        self[key] = self.get(key, 0) + by
        return int(self[key])

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def get(self, key: str, default: Any = None) -> Any:
        value = dict.get(self, key, default)
        return value.encode() if isinstance(value, str) else value

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)

    def delete_key(self, key: str) -> None:
        del self[key]


def test_what_others_have_finished_is_kept_when_the_first_is_interrupted() -> None:
    store = Store()
    group = Group(0, 2, store=store)
    store.set("round 1 1 0", parallel._packed((1, {"loss": 2.0, "none": None})))
    found: dict[str, Any] = {}

    def work(item: str) -> Any:
        if item == "c":
            raise KeyboardInterrupt
        return item

    store.add("round 1 taken", 0)
    with pytest.raises(KeyboardInterrupt):
        group.spread(["c", "b"], work, found.__setitem__)
    assert found == {"b": {"loss": 2.0, "none": None}}


def test_a_failed_process_is_named_with_its_reason() -> None:
    store = Store()
    Group(1, 2, store=store).fail("batch 3 is not finite.")
    group = Group(0, 2, store=store)
    assert group.failure() == "process 1 of 2 failed: batch 3 is not finite."
    with pytest.raises(ProcessError, match="process 1 of 2 failed: batch 3 is not finite"):
        group._together(_closed)


def test_a_killed_process_is_named() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    store = Store()
    import socket

    store.set("process 1", f"{socket.gethostname()} {ended.pid}")
    assert "process 1 of 2 was killed" in str(Group(0, 2, store=store).failure())
    store.set("process 1", f"{socket.gethostname()} {os.getpid()}")
    assert Group(0, 2, store=store).failure() is None


def _closed() -> None:
    raise RuntimeError("Connection closed by peer")


def test_commands_under_torchrun(tmp_path: Path) -> None:
    common = [str(CHECKPOINT), "--n-examples", "150"]
    command = ["spectrum", *common, "--top", "3", "--attack", "pgd-3", "--out"]
    alone = subprocess.run(
        [sys.executable, "-m", "landscape", *command, tmp_path / "one.h5"],
        capture_output=True, text=True, cwd=tmp_path, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    run = torchrun(2, "-m", "landscape", *command, tmp_path / "two.h5", cwd=tmp_path)
    out, said = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert out.replace("two", "one").splitlines()[:3] == alone.stdout.splitlines()[:3]
    one, two = (ls.load(tmp_path / f"{name}.h5") for name in ("one", "two"))
    np.testing.assert_allclose(one.eigenvalues, two.eigenvalues, rtol=1e-5)
    assert (one.provenance.processes, two.provenance.processes) == (1, 2)
    assert said.count("clean accuracy") == 1


def test_commands_that_are_not_divided_are_refused(tmp_path: Path) -> None:
    run = torchrun(2, "-m", "landscape", "train", "--data", "digits", cwd=tmp_path)
    said = run.communicate(timeout=300)[1]
    assert run.returncode != 0
    assert said.count("landscape: error: 'train' runs in one process: start it without") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_and_what_is_finished_is_kept(
    rank: int, tmp_path: Path
) -> None:
    command = [
        "-m", "landscape", "surface", str(CHECKPOINT), "--grid", "25x25", "--attack", "pgd-5",
        "--n-examples", "100", "--out", "s.h5",
    ]  # fmt: skip
    run = torchrun(2, *command, cwd=tmp_path, env={"LANDSCAPE_SAVE_SECONDS": "0"})
    partial = tmp_path / "s.partial.h5"
    end = time.monotonic() + 200
    while not (partial.exists() and _ranks(run.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    os.kill(_ranks(run.pid)[rank], signal.SIGKILL)
    said = run.communicate(timeout=100)[1]
    assert run.returncode != 0
    assert f"rank      : {rank}" in said.split("Root Cause")[1]  # torchrun's own word
    if rank == 1:
        assert "landscape: error: process 1 of 2 was killed" in said
        assert "the same command goes on" in said
    before = ls.load(partial)
    done = int(before.done.sum())
    assert 0 < done < before.done.size
    torchrun(2, *command, cwd=tmp_path).communicate(timeout=300)
    after = ls.load(tmp_path / "s.h5")
    assert after.complete
    np.testing.assert_array_equal(after.loss[before.done], before.loss[before.done])
    assert not partial.exists()


def _ranks(parent: int) -> dict[int, int]:
    """Process numbers of the workers below torchrun, by rank."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            status = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            if folder.name.isdigit() and int(status[1]) == parent:
                entries = (folder / "environ").read_bytes().split(b"\0")
                variables = dict(e.split(b"=", 1) for e in entries if b"=" in e)
                found[int(variables[b"RANK"])] = int(folder.name)
        except (OSError, IndexError, KeyError):
            continue
    return found
