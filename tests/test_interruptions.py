"""What interruptions, damaged files and other processes must not do: files, signals, going on."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

import landscape as ls
from landscape import data
from landscape.checkpoints import read_payload, write_payload
from landscape.cli import run
from landscape.cli.output import Say
from landscape.cli.resume import Partial
from landscape.connectivity import profile
from landscape.connectivity.curves import Curve
from landscape.errors import CheckpointError, DataError, OutputError, UsageError
from landscape.files import remove, reserved, write_atomic
from landscape.results import load
from landscape.training import default_config, train
from landscape.training.folder import existing

FEW = ["--n-examples", "30", "--device", "cpu"]


def names(folder):
    return sorted(p.name for p in Path(folder).iterdir())


def process(code, *arguments):
    """A Python process that says 'ready' and then waits."""
    started = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout.readline() == "ready\n"
    return started


def killed(started):
    started.kill()
    started.wait()
    started.stdout.close()


# -- files ----------------------------------------------------------------------------------------

WRITING = """
import sys, time, os
from landscape.files import write_atomic
os.fsync = lambda d: (print("ready", flush=True), time.sleep(60))
write_atomic(sys.argv[1], b"half", overwrite=True)
"""
RESERVING = """
import sys, time
from landscape.files import reserved
with reserved(sys.argv[1]):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_writer_left_is_swept_away_and_what_a_living_one_writes_is_not(tmp_path):
    path, other = tmp_path / "r.h5", tmp_path / "r.h5.bak"
    writer, neighbour = process(WRITING, path), process(WRITING, other)
    write_atomic(path, b"whole")
    assert len(names(tmp_path)) == 3  # both temporaries are in use
    killed(writer)
    write_atomic(path, b"again", overwrite=True)
    assert [n for n in names(tmp_path) if n.startswith(".")] == [
        n for n in names(tmp_path) if n.startswith(".r.h5.bak.")
    ]
    killed(neighbour)
    remove(other)
    assert names(tmp_path) == ["r.h5"]
    assert path.read_bytes() == b"again"


def test_a_reservation_ends_with_its_process(tmp_path):
    path = tmp_path / "r.h5"
    holder = process(RESERVING, path)
    with (
        pytest.raises(OutputError, match=r"another process is writing .*r\.h5: wait"),
        reserved(path),
    ):
        pass
    killed(holder)
    assert names(tmp_path) == [".r.h5.lock"]
    with reserved(path):
        pass
    assert names(tmp_path) == []


def test_waiting_for_a_reservation(tmp_path):
    holder = process(RESERVING.replace("60", "0.5"), tmp_path / "r")
    start = time.monotonic()
    with reserved(tmp_path / "r", wait=True):
        assert time.monotonic() - start > 0.1
    holder.wait()
    holder.stdout.close()
    assert names(tmp_path) == []


def test_a_changed_number_in_a_result_is_noticed(tmp_path):
    path = tmp_path / "s.h5"
    x, y = data.load("digits", "test", n_examples=20).tensors()
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    ls.surface(ls.Objective(model, (x, y)), x=ls.Axis(-1, 1, 3)).save(path)
    whole = path.read_bytes()
    with h5py.File(path) as file:
        offset = file["loss"].id.get_offset()
    damaged = bytearray(whole)
    damaged[offset] ^= 1  # the last bit of a number
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="damaged"):
        load(path)
    path.write_bytes(whole)
    load(path)
    with h5py.File(path, "a") as file:  # as earlier versions wrote it
        del file.attrs["seal"]
    load(path)


# -- a folder of a training -----------------------------------------------------------------------


def tiny(**options):
    return default_config(
        "digits", "logistic", "standard", epochs=2, n_examples=30, device="cpu", **options
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(tiny(), folder, keep_every=1)
    return folder


def test_a_changed_bit_in_the_state_of_a_training_is_noticed(finished, tmp_path):
    state = bytearray((finished / "last.pt").read_bytes())
    payload = read_payload(finished / "last.pt")
    weights = payload["state"]["weights"][next(iter(payload["state"]["weights"]))]
    offset = state.index(weights.numpy().tobytes())
    state[offset + 2] ^= 16
    (tmp_path / "last.pt").write_bytes(state)
    with pytest.raises(CheckpointError, match=r"last\.pt is damaged .* checksum"):
        existing(tmp_path, tiny(), resume=True, overwrite=False)


def test_exchanged_checkpoints_of_a_run_are_noticed(finished, tmp_path):
    for name, stand_in in (("best.pt", "epochs/0000.pt"), ("final.pt", "epochs/0001.pt")):
        folder = tmp_path / name
        shutil.copytree(finished, folder)
        existing(folder, tiny(), resume=True, overwrite=False)
        shutil.copy(folder / stand_in, folder / name)
        with pytest.raises(CheckpointError, match=f"{name} is another checkpoint of this run"):
            existing(folder, tiny(), resume=True, overwrite=False)


def test_two_trainings_in_one_folder(tmp_path):
    holder = process(RESERVING, tmp_path / "last.pt")
    with pytest.raises(OutputError, match="another process is writing"):
        train(tiny(), tmp_path)
    killed(holder)
    train(tiny(), tmp_path)
    assert not [n for n in names(tmp_path) if n.startswith(".")]


# -- going on -------------------------------------------------------------------------------------


def test_an_interruption_saves_what_was_not_saved_yet(tmp_path, finished):
    history = load(finished / "history.h5")
    partial = Partial(tmp_path / "r.h5", resume=True, say=Say(quiet=True))
    partial.interval = 1000

    def interrupted():
        with partial:
            partial.save(history)
            assert names(tmp_path) == []
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == ["r.partial.h5"]
    assert load(tmp_path / "r.partial.h5") == history


def test_finished_spectra_are_kept(checkpoint, tmp_path, monkeypatch):
    from landscape.diagnostics import eigenvalues

    monkeypatch.chdir(tmp_path)
    Path("other.pt").write_bytes(checkpoint.read_bytes())
    command = ["spectrum", str(checkpoint), "other.pt", "--top", "2", *FEW]
    real, calls = eigenvalues.eigenpairs, []

    def second_is_interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(eigenvalues, "eigenpairs", second_is_interrupted)
    assert run([*command, "--out", "a.h5"]) == 130
    assert run([*command, "--out", "a.h5", "--seed", "1"]) == 2  # of other settings
    assert run([*command, "--out", "a.h5"]) == 0
    assert len(calls) == 3
    assert run([*command, "--out", "b.h5"]) == 0
    for group in ("tiny", "other"):
        a, b = load("a.h5", group), load("b.h5", group)
        assert_array_equal(a.eigenvalues, b.eigenvalues)
        assert_array_equal(a.residuals, b.residuals)
    assert not [n for n in names(".") if "partial" in n or n.startswith(".")]


def test_points_along_a_curve_are_kept():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    ends = [
        {n: p.detach() + torch.full_like(p, shift) for n, p in model.named_parameters()}
        for shift in (0.0, 0.1)
    ]
    x, y = data.load("digits", "test", n_examples=20).tensors()
    curve = Curve.between(*ends, 2)
    saved = []
    whole = profile(model, curve, (x, y), points=4, save=saved.append)
    assert [int(np.isfinite(s.train_loss).sum()) for s in saved] == [*range(1, 9)]
    again = []
    resumed = profile(model, curve, (x, y), points=4, resume=saved[4], save=again.append)
    assert len(again) == 3
    assert_array_equal(resumed.train_loss, whole.train_loss)
    assert_array_equal(resumed.barrier, whole.barrier)
    other = dataclasses.replace(saved[4], length=saved[4].length + 1)
    again.clear()
    profile(model, curve, (x, y), points=4, resume=other, save=again.append)
    assert len(again) == 8  # of another curve: all measured


def test_points_of_cosines_are_kept():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    batch = data.load("digits", "test", n_examples=20).tensors()
    objective = ls.Objective(model, batch, attack=ls.attack("fgsm", eps=0.1))
    given = {"directions": ["random"], "a": ls.Axis(0, 0.5, 3), "draws": 2}
    saved, again = [], []
    whole = ls.perturbation_cosine(objective, **given, save=saved.append)
    resumed = ls.perturbation_cosine(objective, **given, resume=saved[3], save=again.append)
    assert (len(saved), len(again)) == (6, 2)
    for name in ("cosine", "sample_std", "zero_share", "robust_error", "near"):
        assert_array_equal(getattr(resumed, name), getattr(whole, name))
    with pytest.raises(UsageError, match="other settings"):
        ls.perturbation_cosine(objective, **{**given, "seed": 1}, resume=saved[3])


def test_outputs_beside_a_partial_result_are_not_in_the_way(checkpoint, tmp_path, monkeypatch):
    """A run killed while it wrote its outputs: the same command replaces them."""
    monkeypatch.chdir(tmp_path)
    command = ["surface", str(checkpoint), "--grid", "3x3", *FEW, "--out", "s.h5"]
    assert run(command) == 0
    whole = load("s.h5")
    assert run(command) == 1  # finished: as ever
    Path("s.h5").rename("s.partial.h5")
    Path("s.h5").write_bytes(b"of before")
    assert run([*command, "--no-resume"]) == 1
    assert run(command) == 0
    assert_array_equal(load("s.h5").loss, whole.loss)
    assert names(".") == ["s.h5", "s.pdf", "s.png"]


# -- signals and streams --------------------------------------------------------------------------

SLOW = """
import sys, time
import landscape.cli.data as module
def listing(**given):
    print("ready", flush=True)
    time.sleep(60)
module.data.callback = listing
from landscape.cli import main
main(["data"])
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_end_a_command_with_a_word(name, code):
    started = subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert started.stdout.readline() == "ready\n"
    started.send_signal(getattr(signal, name))
    _, said = started.communicate(timeout=30)
    assert started.returncode == code
    assert "finished work is kept. Go on with: landscape data" in said
    assert "Traceback" not in said


LOST = """
import os, signal, sys, time
import landscape.cli.data as module
class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
def listing(**given):
    last = Last()
    del last
    time.sleep(60)
module.data.callback = listing
from landscape.cli import main
main(["data"])
"""


def test_a_signal_that_meets_a_destructor_is_not_lost():
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, timeout=30)
    assert done.returncode == 143
    assert "stopped by SIGTERM" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_ignored_hangup_stays_ignored():
    """nohup."""
    started = subprocess.Popen(
        [sys.executable, "-c", SLOW.replace("60", "0.5")],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        text=True,
    )
    assert started.stdout.readline() == "ready\n"
    started.send_signal(signal.SIGHUP)
    assert started.wait(timeout=30) == 0
    started.stdout.close()


def test_a_full_disk_while_a_folder_is_made(monkeypatch, capsys):
    from landscape.cli.data import data as command

    def full(**given):
        raise OSError(errno.ENOSPC, "No space left on device", "/a/folder")

    monkeypatch.setattr(command, "callback", full)
    assert run(["data"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("landscape: error: can't write /a/folder: the disk is full: free some")
    assert "-vv" not in said


def test_a_reader_that_has_gone_ends_nothing(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    code = (
        "import sys; from landscape.cli import main; import landscape.cli.data as m\n"
        "def listing(**given):\n"
        "    print('x' * 100000, flush=True); print('y', file=sys.stderr, flush=True)\n"
        "    open(sys.argv[1], 'w').write('work')\n"
        "    return 3\n"
        "m.data.callback = listing; main(['data'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out"], stdout=writer, stderr=writer
    )
    os.close(writer)
    assert done.returncode == 3
    assert (tmp_path / "out").read_text() == "work"


def test_writing_payloads_round_trips(tmp_path):
    content = {"format": "landscape-test", "values": torch.arange(3.0)}
    write_payload(tmp_path / "p.pt", content)
    assert_array_equal(read_payload(tmp_path / "p.pt")["values"], [0, 1, 2])
