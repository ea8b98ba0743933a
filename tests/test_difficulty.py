"""Difficulty against its definition, slow loops, the bootstrap; subsets; the command."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from cases import CASES, joined
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import landscape as ls
from landscape import data as datasets
from landscape.cli import run
from landscape.data.splits import extremes
from landscape.diagnostics.features import sample_pass
from landscape.diagnostics.ranks import group_of, mean_distance, ranks
from landscape.errors import DataError, UsageError
from landscape.plotting import picture
from landscape.plotting.difficulty import draw, sheet
from landscape.plotting.difficulty import extremes as shown
from landscape.training.subsets import Subset, digest, of_run

PGD = ls.attack("pgd-2", eps=0.1)
NET = CASES["conv, batchnorm, dropout"]


def rng(seed=0):
    return np.random.default_rng(seed)


def recorded(n=60, epochs=5, seed=0, **kwargs):
    r = rng(seed)
    loss = r.exponential(size=(epochs, n)) * np.linspace(0.2, 2, n)
    kwargs = {"correct": loss < 1, **kwargs}
    return ls.recorded_difficulty(loss, np.arange(n) % 3, **kwargs), loss


# -- the definition -------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_are_equation_1(ties):
    cost = rng().integers(0, 6, 37).astype(float) if ties else rng().random(37)
    slow = [
        sum((c < e) + 0.5 * (c == e) for e in cost) / len(cost)  # as printed, e = x included
        for c in cost
    ]
    assert_allclose(ranks(cost), slow, rtol=1e-12)
    assert_allclose(ranks(cost).mean(), 0.5, rtol=1e-12)
    if not ties:
        assert_allclose(sorted(ranks(cost)), (np.arange(37) + 0.5) / 37)


@pytest.mark.parametrize("n", [7, 10, 15, 45, 1197])
@pytest.mark.parametrize("groups", [3, 10, 100])
def test_groups_are_exact_intervals(n, groups):
    """g/G ≤ d < (g + 1)/G in whole numbers, also where G·d in floating point is rounded down."""
    cost = rng().permutation(n).astype(float)
    twice = np.array([2 * (n - 1 - int(c)) + 1 for c in cost])  # 2N·d
    assert_array_equal(group_of(ranks(cost), groups), [t * groups // (2 * n) for t in twice])


def test_averages_over_epochs_and_groups():
    found, loss = recorded(groups=4)
    assert_allclose(found.mean_loss, loss.mean(0))
    assert_allclose(found.difficulty, ranks(loss.mean(0)))
    assert_allclose(found.mean_error, (loss >= 1).mean(0))
    assert_allclose(found.difficulty_error, ranks((loss >= 1).mean(0)))
    assert found.group_size.tolist() == [15] * 4
    assert (
        found.mean_loss[found.sample_group == 0].min()
        > found.mean_loss[found.sample_group == 3].max()
    )
    for e in range(5):
        for g in range(4):
            part = loss[e, found.sample_group == g]
            assert_allclose(found.group_loss[e, g], part.mean())
            error = math.sqrt(part.var(ddof=1) / 15)
            assert_allclose(found.group_loss_standard_error[e, g], error)
            assert_allclose(found.group_error[e, g], (part >= 1).mean())
    assert found.loss_and_error.value > 0.5


def test_samples_that_were_not_always_seen():
    loss = np.array([[1.0, 2.0, 3.0], [np.nan, 0.0, 5.0]])
    found = ls.recorded_difficulty(loss, [0, 1, 0], groups=2)
    assert_allclose(found.mean_loss, [1, 1, 4])
    assert_allclose(found.difficulty, [2 / 3, 2 / 3, 1 / 6])
    assert found.epochs_seen.tolist() == [1, 2, 2]
    assert found.group_error is None
    with pytest.raises(DataError, match="1 of 3 samples were never seen in the 1 epoch"):
        ls.recorded_difficulty(loss[1:], [0, 1, 0])


def test_groups_by_another_run():
    other, _ = recorded(seed=1)
    found, loss = recorded(seed=0, by=other)
    assert_array_equal(found.sample_group, group_of(other.difficulty, 10))
    assert_allclose(found.difficulty, ranks(loss.mean(0)))
    assert found.provenance.settings["by"] != recorded()[0].provenance.settings["by"]
    short, _ = recorded(n=30)
    with pytest.raises(DataError, match=r"of other data .30 samples and 60."):
        recorded(by=short)


def test_wrong_shapes_are_refused():
    with pytest.raises(UsageError, match=r"shape .epochs, samples.*got .5,. and .5,."):
        ls.recorded_difficulty(np.ones(5), np.ones(5))
    with pytest.raises(UsageError, match="groups must be at least 2"):
        ls.recorded_difficulty(np.ones((2, 5)), np.zeros(5), groups=1)
    with pytest.raises(UsageError, match="3 epochs for losses of 2"):
        ls.recorded_difficulty(np.ones((2, 5)), np.zeros(5), epochs=[1, 2, 3])
    with pytest.raises(UsageError, match=r"correct has shape .1, 5."):
        ls.recorded_difficulty(np.ones((2, 5)), np.zeros(5), correct=np.ones((1, 5)))


# -- two runs -------------------------------------------------------------------------------------


def test_distances_with_known_answers():
    n = 2000
    order = np.arange(n, dtype=float)
    same, opposite = ranks(order), ranks(-order)
    assert mean_distance(same, same).value == mean_distance(same, same).standard_error == 0
    assert_allclose(mean_distance(same, opposite).value, 0.5, atol=1e-3)
    # Of unrelated ranks exactly (N² − 1)/3N², not the 0.375 of liu2022 D.1.
    r = rng()
    many = [mean_distance(same, ranks(r.permutation(n))).value for _ in range(200)]
    assert_allclose(np.mean(many), 1 / 3, atol=0.002)


def draws(n, seed):
    """Losses of n samples in two runs that have something in common, with ties in one."""
    r = rng(seed)
    common = r.standard_normal(n)
    return ranks(common + r.standard_normal(n)), ranks(np.round(2 * (common + r.random(n))))


def test_standard_error_of_the_distance_is_that_of_repeated_samples():
    found = [mean_distance(*draws(200, seed)) for seed in range(1500)]
    spread = np.std([e.value for e in found])
    # Without the terms by which samples move each other's ranks it is an eighth too small.
    assert_allclose(np.mean([e.standard_error for e in found]), spread, rtol=0.06)


def test_standard_error_of_the_distance_against_the_jackknife():
    a, b = draws(150, 3)
    n = len(a)
    left = []
    for i in range(n):
        keep = np.arange(n) != i
        left.append(mean_distance(ranks(-a[keep]), ranks(-b[keep])).value)
    jackknife = math.sqrt((n - 1) / n * np.sum((np.array(left) - np.mean(left)) ** 2))
    assert_allclose(mean_distance(a, b).standard_error, jackknife, rtol=0.03)


def test_agreement_of_runs():
    from scipy.stats import spearmanr

    a, la = recorded(seed=0)
    b, lb = recorded(seed=1)
    table = ls.difficulty_agreement({"a": a, "b": b})
    assert_allclose(table.spearman[0, 1], spearmanr(la.mean(0), lb.mean(0)).statistic)
    assert_allclose(table.spearman[0, 1], np.corrcoef(a.difficulty, b.difficulty)[0, 1])
    assert_allclose(table.distance[0, 1], np.abs(a.difficulty - b.difficulty).mean())
    assert_allclose(table.distance, table.distance.T)
    assert_allclose(np.diag(table.distance), 0)
    with pytest.raises(UsageError, match="at least 2 runs, got 1"):
        ls.difficulty_agreement({"a": a})
    other = ls.recorded_difficulty(la, (np.arange(60) + 1) % 3)
    with pytest.raises(DataError, match=r"other data .their labels differ."):
        ls.difficulty_distance(a, other)


# -- networks -------------------------------------------------------------------------------------


def networks(count=3):
    """The same data and architecture at several weights."""
    made = []
    for k in range(count):
        model = NET.model()
        with torch.no_grad():
            for p in model.parameters():
                p *= 1 + 0.2 * k
        made.append(ls.Objective(model, NET.data(), attack=PGD, refresh="each"))
    return made


def test_networks_against_a_loop():
    objectives = networks()
    found = ls.difficulty(objectives, epochs=[2, 4, 6], groups=2)
    losses = []
    for o in objectives:
        x, y = joined([(t.x, t.y) for t in o.terms()])  # its adversarial examples
        model = o.model.eval()
        with torch.no_grad():
            losses.append(nn.functional.cross_entropy(model(x), y, reduction="none").numpy())
            h = torch.nn.functional.avg_pool2d(torch.tanh(model.bn1(model.conv1(x))), 2)
            h = torch.nn.functional.softplus(
                model.bn2(model.conv2(torch.nn.functional.pad(h, (1, 0, 1, 0))))
            ).flatten(1)
            norms = h.norm(dim=1).numpy()
    assert_allclose(found.mean_loss, np.mean(losses, 0), rtol=1e-9)
    assert_allclose(found.difficulty, ranks(np.mean(losses, 0)))
    for g in range(2):
        part = norms[found.sample_group == g]
        assert_allclose(found.group_feature_norm[-1, g], part.mean(), rtol=1e-9)
        error = part.std(ddof=1) / len(part) ** 0.5
        assert_allclose(found.group_feature_norm_standard_error[-1, g], error, rtol=1e-9)
    assert found.epoch.tolist() == found.feature_epoch.tolist() == [2, 4, 6]
    assert len(set(found.provenance.objective["networks"])) == 3


def test_networks_one_after_the_other_need_their_epochs():
    found = ls.difficulty((o for o in networks()), epochs=[1, 2, 3])
    assert_allclose(found.difficulty, ls.difficulty(networks()).difficulty)
    with pytest.raises(UsageError, match="3 objectives for 2 epochs"):
        ls.difficulty(networks(), epochs=[1, 2])
    with pytest.raises(UsageError, match="0 objectives for 0 epochs"):
        ls.difficulty([])
    other = ls.Objective(NET.model(), NET.data((7, 5, 1, 3)))
    with pytest.raises(UsageError, match="objective 3 has other data than the first"):
        ls.difficulty([*networks(), other])


class Head(nn.Module):
    """Layers are made in another order than they run, and one Linear is never run."""

    def __init__(self, last=True):
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.body = nn.Linear(6, 5)
        self.idle = nn.Linear(5, 3)
        self.last = last

    def forward(self, x):
        h = torch.tanh(self.body(x))
        return self.head(input=h) if self.last else h @ self.head.weight.T


def test_features_are_the_input_of_the_last_layer_that_runs():
    x, y = joined(CASES["mlp"].data())
    model = Head().double()
    found = sample_pass(ls.Objective(model, (x, y), batch_size=7))
    with torch.no_grad():
        expected = torch.tanh(model.body(x)).norm(dim=1)
    assert_allclose(found.feature_norm, expected.numpy(), rtol=1e-12)
    tied = CASES["tied"]
    model = tied.model()
    found = sample_pass(ls.Objective(model, tied.data()))
    x, _ = joined(tied.data())
    with torch.no_grad():
        h = torch.tanh(model.second(torch.tanh(model.first(x)))) @ model.first.weight.T
    assert_allclose(found.feature_norm, h.norm(dim=1).numpy(), rtol=1e-12)


def test_networks_without_features_are_refused():
    x, y = joined(CASES["mlp"].data())
    objective = ls.Objective(Head(last=False).double(), (x, y))
    with pytest.raises(UsageError, match=r"'body', maps .17, 6. to .17, 5. .*features=False"):
        ls.difficulty(objective)
    assert ls.difficulty(objective, features=False).group_feature_norm is None
    bare = nn.Sequential(nn.Conv1d(1, 3, 6), nn.Flatten()).double()
    with pytest.raises(UsageError, match=r"last nn.Linear, and this network calls none"):
        ls.difficulty(ls.Objective(bare, (x[:, None, :], y)))
    case = CASES["regression"]
    with pytest.raises(UsageError, match="needs a classifier"):
        ls.difficulty(ls.Objective(case.model(), case.data(), "mse"))
    with pytest.raises(UsageError, match="one value per sample"):
        ls.difficulty(ls.Objective(Head().double(), (x, y), nn.CrossEntropyLoss()))


# -- subsets --------------------------------------------------------------------------------------


def test_extremes_by_a_loop():
    r = rng()
    labels, scores = r.integers(0, 4, 90), r.integers(0, 9, 90).astype(float)
    found = extremes(labels, scores, 22)
    slow = []
    for c, quota in enumerate([6, 6, 5, 5]):
        members = sorted(np.flatnonzero(labels == c), key=lambda i: (-scores[i], i))
        slow += members[:quota]
    assert_array_equal(found, sorted(slow))
    smallest = np.bincount(labels).min()
    assert len(extremes(labels, scores, 4 * smallest)) == 4 * smallest
    with pytest.raises(UsageError, match=rf"sizes lie in 1..{4 * smallest}, as class \d has"):
        extremes(labels, scores, 4 * smallest + 4)


def short(out, method="pgd", *, keep_every=None, **kwargs):
    """A training of two epochs with records, without pictures and long evaluations."""
    weak = ls.attack("pgd-1", eps=0.1)
    more = {"steps": 1, "validation_attack": weak} if method == "pgd" else {}
    config = ls.default_config(
        "digits", "mlp", method, epochs=2, n_examples=100, evaluation=weak, **more, **kwargs
    )
    return ls.train(config, out, keep_every=keep_every, track=ls.Tracking(samples=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two short trainings with records, one of them with kept networks."""
    folder = tmp_path_factory.mktemp("runs")
    short(folder / "run0", keep_every=1)
    short(folder / "run1", seed=1)
    return folder


def test_recorded_losses_are_those_of_the_track(runs):
    track = ls.load(runs / "run0" / "track.h5")
    found = of_run(runs / "run0")
    assert_allclose(found.mean_loss, track.sample_loss.astype(float).mean(0))
    assert_allclose(found.mean_error, 1 - track.sample_correct.mean(0))
    assert found.epoch.tolist() == [1, 2]
    data = datasets.load("digits", "train", n_examples=100)
    assert found.provenance.objective["data"]["digest"] == digest(data)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    objective = ls.Objective(model, data, batch_size=33)
    assert objective.describe()["data"]["digest"] == digest(data)


def test_training_on_a_subset(runs, tmp_path, capsys):
    asked = f"hardest:40@{runs / 'run0'}"
    short(tmp_path / "hard", "standard", subset=asked)
    found = of_run(tmp_path / "hard")
    d = of_run(runs / "run0")
    pool = datasets.load("digits", "train", n_examples=100)
    rows = extremes(d.labels, -d.difficulty, 40)
    assert found.provenance.objective["data"]["digest"] == digest(pool.take(rows))
    assert np.bincount(found.labels).tolist() == [4] * 10
    for c in range(10):  # none left out is harder than one taken
        taken = d.difficulty[rows[d.labels[rows] == c]]
        left = d.difficulty[np.setdiff1d(np.flatnonzero(d.labels == c), rows)]
        assert left.size == 0 or taken.max() <= left.min()
    config = ls.load_checkpoint(tmp_path / "hard" / "best.pt").method["config"]
    assert config["subset"]["data"] == digest(pool)
    # The same command finds the finished run, also once the folder of losses has moved.
    (tmp_path / "moved").mkdir()
    for name in ("track.h5", "history.h5"):
        (tmp_path / "moved" / name).write_bytes((runs / "run0" / name).read_bytes())
    again = asked.replace(str(runs / "run0"), str(tmp_path / "moved"))
    before = (tmp_path / "hard" / "best.pt").stat()
    short(tmp_path / "hard", "standard", subset=again)
    assert (tmp_path / "hard" / "best.pt").stat() == before
    with pytest.raises(UsageError, match=r"another configuration .subset.record"):
        short(tmp_path / "hard", "standard", subset=asked.replace("run0", "run1"))
    assert run(["train", "standard", "--subset", asked, "--n-examples", "100", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["subset"] == config["subset"]
    # Accuracy on the samples trained on.
    best = str(tmp_path / "hard" / "best.pt")
    given = ["--split", "train", "--n-examples", "100", "--subset", asked]
    assert run(["trace", best, *given, "--dry-run"]) == 0
    assert "digits/train, 40 examples" in capsys.readouterr().err


def test_random_subsets():
    data = datasets.load("digits", "train")
    found = Subset.parse("random:200").of(data)
    assert np.bincount(found.labels).tolist() == [20] * 10
    same = datasets.load("digits", "train", n_examples=200)
    assert_array_equal(found.indices, same.indices)
    other = Subset.parse("random:200@1").of(data)
    assert not np.array_equal(found.indices, other.indices)
    assert str(Subset.parse("random:200@1")) == "random:200@1"
    config = ls.default_config("digits", None, "standard", subset="random:200")
    assert config.to_dict()["subset"]["size"] == 200
    plain = ls.default_config("digits", None, "standard")
    assert "subset" not in plain.to_dict()
    assert plain.digest != config.digest


def test_wrong_subsets(runs, tmp_path):
    for text, message in (
        ("easy:10@x", r"unknown kind of subset 'easy'"),
        ("easiest", "write easiest:1000@RUN"),
        ("easiest:-3@x", "write easiest:1000@RUN"),
        ("easiest:10", "needs a run that recorded.*--track-samples"),
        ("random:10@run", "comes a seed, not a run"),
    ):
        with pytest.raises(UsageError, match=message):
            Subset.parse(text)
    with pytest.raises(DataError, match="does not exist"):
        Subset.parse(f"easiest:10@{tmp_path / 'none'}")
    with pytest.raises(DataError, match=r"no recorded losses.*--track-samples"):
        Subset.parse(f"easiest:10@{tmp_path}")
    with pytest.raises(DataError, match="result of kind 'history'"):
        Subset.parse(f"easiest:10@{runs / 'run0' / 'history.h5'}")
    chosen = Subset.parse(f"easiest:10@{runs / 'run0'}")
    with pytest.raises(DataError, match="ranks other samples than digits/train: its 100"):
        chosen.of(datasets.load("digits", "train"))
    same_labels = datasets.load("digits", "train", n_examples=100)
    same_labels.images.values[3] = 0
    with pytest.raises(DataError, match="ranks other samples"):
        chosen.of(same_labels)
    with pytest.raises(UsageError, match=r"subset of 300.*sizes lie in 1..100"):
        Subset.parse(f"hardest:300@{runs / 'run0'}").of(
            datasets.load("digits", "train", n_examples=100)
        )
    with pytest.raises(UsageError, match="not one from a factory"):
        Subset.parse("random:10").of([(torch.zeros(2, 1), torch.zeros(2))])


# -- the command ----------------------------------------------------------------------------------


def test_command_on_recorded_losses(runs, tmp_path, capsys):
    paths = [str(runs / "run0"), str(runs / "run1")]
    out = tmp_path / "d.h5"
    assert run(["difficulty", *paths, "--show", "1", "--out", str(out), "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    first, second = (of_run(path) for path in paths)
    assert_allclose(found["run0"]["difficulty"], first.difficulty)
    distance = ls.difficulty_distance(first, second)
    assert_allclose(found["agreement"]["distance"][0][1], distance.value)
    assert_allclose(found["agreement"]["distance_standard_error"][0][1], distance.standard_error)
    assert "clean accuracy" in told.err
    saved = ls.load(out, "run0")
    assert saved.feature_epoch.tolist() == [1, 2]  # of the kept networks
    assert ls.load(out, "run1").feature_epoch.tolist() == [2]  # of the last
    assert sorted(p.name for p in tmp_path.glob("*.png")) == [
        "d-run0-sheet.png",
        "d-run1-sheet.png",
        "d.png",
    ]
    assert run(["difficulty", *paths, "--out", str(out)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    # Groups by the other run, from its folder and from a file.
    assert run(["difficulty", paths[0], "--by", paths[1], "--no-features", "--show", "0",
                "--out", str(tmp_path / "by.h5")]) == 0  # fmt: skip
    found = ls.load(tmp_path / "by.h5")
    assert_array_equal(found.sample_group, group_of(second.difficulty, 10))
    assert found.feature_epoch is None
    assert "G0 hardest" in capsys.readouterr().out


def test_command_on_networks(runs, tmp_path, capsys):
    out = ["--show", "0", "--json", "-q"]
    folder = runs / "run0"
    command = ["difficulty", str(folder), "--losses", "networks", "--groups", "2"]
    assert run([*command, "--out", str(tmp_path / "a.h5"), *out]) == 0
    found = ls.load(tmp_path / "a.h5")
    described = found.provenance.objective
    assert described["attack"]["steps"] == 1  # as it was trained
    assert described["data"]["samples"] == 100
    # The kept networks as files, in any order; and by hand.
    files = [str(folder / "epochs" / name) for name in ("0002.pt", "0001.pt")]
    command = ["difficulty", *files, "--groups", "2", "--out", str(tmp_path / "b.h5"), *out]
    assert run(command) == 0
    assert_allclose(ls.load(tmp_path / "b.h5").mean_loss, found.mean_loss)
    assert ls.load(tmp_path / "b.h5").epoch.tolist() == [1, 2]
    data = datasets.load("digits", "train", n_examples=100)
    losses = []
    for path in sorted(files):
        checkpoint = ls.load_checkpoint(path)
        model = checkpoint.into(ls_model(checkpoint))
        attack = ls.attack("pgd-1", eps=0.1)
        losses.append(ls.Objective(model, data, attack=attack).per_sample()[0].numpy())
    assert_allclose(found.mean_loss, np.mean(losses, 0), rtol=1e-5)
    assert run([*command, "--attack", "clean", "--overwrite"]) == 0
    assert ls.load(tmp_path / "b.h5").provenance.objective["attack"] is None
    capsys.readouterr()


def ls_model(checkpoint):
    from landscape.models import ModelSpec

    return ModelSpec.from_dict(checkpoint.model).build(seed=0)


def test_command_refuses(runs, tmp_path, capsys):
    def refused(*arguments, code=1):
        out = str(tmp_path / "x.h5")
        assert run(["difficulty", *map(str, arguments), "--out", out, "-q"]) == code
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        return error

    no_networks = refused(runs / "run1", "--losses", "networks", code=2)
    assert "has no networks along the training: train with --keep-every 1" in no_networks
    (tmp_path / "empty").mkdir()
    assert "--track-samples" in refused(tmp_path / "empty", code=2)
    assert "does not exist" in refused(tmp_path / "none")
    best = runs / "run1" / "best.pt"
    assert "not both" in refused(runs / "run0", best, code=2)
    assert "best.pt is given twice" in refused(best, best, code=2)
    assert "hold no recorded losses" in refused(best, "--losses", "recorded", code=2)
    assert "other samples than" in refused(runs / "run0", "--split", "test")
    assert "--eps needs an attack" in refused(runs / "run0", "--eps", "0.2", code=2)
    assert "unknown attack" in refused(runs / "run0", "--attack", "pdg", code=2)
    digits = ls.checkpoints.bundled()
    assert "other data than" in refused(
        digits["digits-standard-seed0"], runs / "run0" / "best.pt", "--no-features"
    )
    assert not list(tmp_path.glob("*.h5"))
    assert run(["difficulty", str(runs / "run0"), "--dry-run", "-q"]) == 0
    assert "2 passes over the data" in capsys.readouterr().out


# -- pictures -------------------------------------------------------------------------------------


def test_pictures(tmp_path):
    from landscape.plotting.style import save_figure

    found, _ = recorded()
    one = ls.difficulty(networks(1)[0], groups=3)
    for results, panels in (([found], 3), ([found, found], 9), ([one], 3)):
        fig = picture(results, ["a", "b"][: len(results)])
        assert len(fig.axes) == panels
        save_figure(fig, tmp_path / f"p{len(results)}", overwrite=True)
    ax = draw(found, "loss")
    assert ax.get_xlabel() == "epoch"
    assert_allclose(ax.lines[0].get_ydata(), found.group_loss[:, 0])
    assert_allclose(ax.lines[-1].get_ydata(), found.group_loss[:, 9])
    with pytest.raises(UsageError, match="no feature_norm of the groups"):
        found.plot(quantity="feature_norm")
    with pytest.raises(UsageError, match="unknown quantity"):
        found.plot(quantity="lost")


def test_sheet_shows_the_extremes():
    found, _ = recorded()
    rows = shown(found, 2)
    for c, part in enumerate(rows):
        members = np.flatnonzero(found.labels == c)
        by_ease = members[np.argsort(-found.difficulty[members])]
        assert_array_equal(part, [*by_ease[:2], *by_ease[::-1][:2]])
    fig = sheet(found, np.zeros((12, 1, 4, 4)), 2, classes=("x", "y", "z"))
    captions = [ax.get_xlabel() for ax in fig.axes]
    assert captions[0].startswith(f"{found.difficulty[rows[0][0]]:.3f}")
    assert [ax.get_ylabel() for ax in fig.axes[::4]] == ["x", "y", "z"]
