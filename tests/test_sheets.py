"""Contact sheets and the adversarial examples on them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import CASES, joined
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import landscape as ls
from landscape.cli import run
from landscape.errors import UsageError
from landscape.plotting import picture
from landscape.plotting.sheets import draw_sheet, height
from landscape.plotting.style import PAGE
from landscape.random import Streams

CASE = CASES["conv, batchnorm, dropout"]
PGD = ls.attack("pgd-3", eps=0.1)


def shown(fig):
    """The pixels of every tile, in order."""
    return [ax.images[0].get_array() for ax in fig.axes if ax.images]


# -- sheets ---------------------------------------------------------------------------------------


def test_tiles_in_their_order_with_captions():
    images = np.random.default_rng(0).random((5, 1, 4, 6))
    fig = draw_sheet(
        images, list("abcde"), columns=3, row_labels=["first", "second"], colours=["red"] * 5
    )
    assert len(fig.axes) == 6  # two rows of three, the last one empty
    tiles = shown(fig)
    assert len(tiles) == 5
    for tile, image in zip(tiles, images, strict=True):
        assert_allclose(tile, np.repeat(image[0][..., None], 3, 2))
    assert [ax.get_xlabel() for ax in fig.axes] == [*"abcde", ""]
    assert [fig.axes[i].get_ylabel() for i in (0, 3)] == ["first", "second"]
    assert fig.axes[0].xaxis.label.get_color() == "red"


def test_colour_and_signed_tiles():
    images = np.zeros((3, 3, 2, 2))
    images[0, 0] = 1.5  # clipped to full red
    images[1] = np.nan
    images[2, 2] = 0.5
    tiles = shown(draw_sheet(images, signed=[False, False, True]))
    assert_allclose(tiles[0][0, 0], [1, 0, 0])
    assert_allclose(tiles[1][0, 0], 0)
    assert_allclose(tiles[2][0, 0], [0.5, 0.5, 1])  # a shift from middle grey
    signed = np.array([-0.5, 0.0, 0.5]).reshape(1, 1, 1, 3)
    (tile,) = shown(draw_sheet(signed, signed=[True]))
    down, none, up = tile[0]
    assert none.min() > 0.95  # white
    assert down[2] > down[0]  # purple
    assert up[0] > up[2]  # brown


def test_a_sheet_is_as_large_as_it_needs_to_be():
    images = np.zeros((16, 1, 8, 8))
    wide, high = draw_sheet(images, columns=8).get_size_inches()
    assert wide == PAGE
    assert high == pytest.approx(height(images, columns=8))
    assert height(images, ["two\nlines"] * 16) > height(images, ["one"] * 16) > height(images)
    assert height(images, title="t") > height(images)
    narrow = draw_sheet(images[:2], title="a title that is wider than two small images are")
    assert 2.5 < narrow.get_size_inches()[0] < PAGE


def test_sheets_share_a_page():
    from matplotlib.figure import Figure

    page = Figure(figsize=(6, 6))
    above, below = page.subfigures(2, 1)
    images = np.random.default_rng(0).random((4, 3, 5, 5))
    assert draw_sheet(images, columns=2, title="easiest", fig=above) is above
    draw_sheet(images, columns=4, title="hardest", fig=below)
    assert len(page.axes) == 8


def test_refused_sheets():
    images = np.zeros((4, 1, 8, 8))
    for shape in ((4, 8, 8), (4, 2, 8, 8), (0, 1, 8, 8), (4, 8)):
        with pytest.raises(UsageError, match=r"shape \(N, C, H, W\) with 1 or 3 channels, got"):
            draw_sheet(np.zeros(shape))
    with pytest.raises(UsageError, match="3 captions for 4 images: give one for each, or none"):
        draw_sheet(images, ["a"] * 3)
    with pytest.raises(UsageError, match="1 signed for 4 images"):
        draw_sheet(images, signed=[True])
    with pytest.raises(UsageError, match="columns must be at least 1, got 0"):
        draw_sheet(images, columns=0)


# -- adversarial examples -------------------------------------------------------------------------


def make(sizes=(7, 5, 1, 4), **kwargs):
    return ls.Objective(CASE.model(), CASE.data(sizes), **{"attack": PGD, **kwargs})


def test_against_the_module_itself():
    chosen = [14, 2, 7]
    found = ls.adversarial_examples(make(seed=4), indices=chosen)
    x, y = (t[chosen] for t in joined(CASE.data()))
    model = copy.deepcopy(CASE.model()).eval().requires_grad_(False)
    moved = PGD.perturb(model, x, y, streams=Streams(4, "attack"))
    assert_array_equal(found.index, chosen)
    assert_array_equal(found.labels, y)
    for name, images in (("clean", x), ("adversarial", moved)):
        p = model(images).softmax(1)
        assert_allclose(getattr(found, name), images, rtol=1e-12)
        assert_array_equal(getattr(found, f"{name}_prediction"), p.argmax(1))
        assert_allclose(getattr(found, f"{name}_confidence"), p.max(1).values, rtol=1e-10)
    assert_allclose(found.perturbation, moved - x, atol=1e-15)
    assert 0.09 < np.abs(found.perturbation).max() < 0.1 + 1e-9


def test_drawn_without_replacement_whatever_the_batches():
    one, two, other = (
        ls.adversarial_examples(make(sizes), 6, seed=seed)
        for sizes, seed in (((7, 5, 1, 4), 0), ((2, 15), 0), ((7, 5, 1, 4), 1))
    )
    assert (np.diff(one.index) > 0).all()
    assert_array_equal(one.index, two.index)
    assert_allclose(one.adversarial, two.adversarial, rtol=1e-9)
    assert one.index.tolist() != other.index.tolist()
    assert_array_equal(ls.adversarial_examples(make(), 17).index, np.arange(17))


def test_without_an_attack_nothing_moves():
    found = ls.adversarial_examples(make(attack=None), 3)
    assert_array_equal(found.clean, found.adversarial)
    fig = picture([found])
    assert "perturbations × 1:" in fig.get_suptitle()


def test_model_untouched_and_result_stored(tmp_path):
    model = CASE.model().train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [m.training for m in model.modules()]
    before = torch.get_rng_state()
    found = ls.adversarial_examples(ls.Objective(model, CASE.data(), attack=PGD), 3)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert flags == [m.training for m in model.modules()]
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(before, torch.get_rng_state())
    assert ls.load(found.save(tmp_path / "a.h5")) == found
    json.dumps(found.to_dict(), allow_nan=False)
    seen = []
    ls.adversarial_examples(make(), 3, progress=lambda *p: seen.append(p))
    assert seen[-1] == (4, 4)


def test_rows_of_one_and_of_two_networks():
    a = ls.adversarial_examples(make(), 3)
    other = ls.Objective(CASE.model(), CASE.data(), attack=ls.attack("fgsm", eps=0.05))
    b = ls.adversarial_examples(other, 3)
    assert len(shown(picture([a]))) == 9
    fig = picture([a, b], ["one", "two"])
    tiles = shown(fig)
    assert len(tiles) == 15
    labels = [ax.get_ylabel() for ax in fig.axes[::3]]
    assert labels == [
        "clean",
        "one\nperturbation",
        "one\nadversarial",
        "two\nperturbation",
        "two\nadversarial",
    ]
    assert "perturbations × 5:" in fig.get_suptitle()  # 0.5 / ε, one factor for both
    assert_allclose(tiles[6][..., 0], a.adversarial[0, 0])
    for i, ax in enumerate(fig.axes[6:9]):
        wrong = a.adversarial_prediction[i] != a.labels[i]
        assert (ax.xaxis.label.get_color() != "black") == wrong
        assert ax.get_xlabel().endswith(
            f"{a.adversarial_prediction[i]} ({a.adversarial_confidence[i]:.2f})"
        )
    c = ls.adversarial_examples(make(), indices=[0, 1, 2])
    if not np.array_equal(c.clean, a.clean):
        with pytest.raises(UsageError, match="these sheets show different images"):
            picture([a, c])


def test_three_channels():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(5, 3, 4, 4, generator=g)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    objective = ls.Objective(model, (x, torch.arange(5) % 3), attack=PGD)
    found = ls.adversarial_examples(objective, 2)
    fig = found.plot()
    assert "as a shift from middle grey" in fig.get_suptitle()
    assert_allclose(shown(fig)[0], found.clean[0].transpose(1, 2, 0))


def test_refused_examples():
    with pytest.raises(UsageError, match="asked for 18 images of 17: ask for 1 to 17"):
        ls.adversarial_examples(make(), 18)
    with pytest.raises(UsageError, match=r"there is no sample 17: the data have 0\.\.16"):
        ls.adversarial_examples(make(), indices=[3, 17])
    with pytest.raises(UsageError, match="an index repeats"):
        ls.adversarial_examples(make(), indices=[3, 3])
    with pytest.raises(UsageError, match="give at least one index"):
        ls.adversarial_examples(make(), indices=[])
    vectors = CASES["mlp"]
    with pytest.raises(UsageError, match=r"examples are of images \(B, C, H, W\).*not \(2, 6\)"):
        ls.adversarial_examples(ls.Objective(vectors.model(), vectors.data(), attack=PGD), 2)
    with pytest.raises(UsageError, match=r"a sheet has axes of its own: call plot\(\) without"):
        ls.adversarial_examples(make(), 2).plot(ax=object())


BUNDLED = Path(__file__).parent.parent / "checkpoints"


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    paths = [str(BUNDLED / f"digits-{name}-seed0.pt") for name in ("pgd", "standard")]
    arguments = ["examples", *paths, "--attack", "pgd-5", "--n", "4"]
    assert run([*arguments, "--dry-run"]) == 0
    assert list(tmp_path.iterdir()) == []
    capsys.readouterr()
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert err.count("clean accuracy") == 2
    saved = ls.load_all("compared-examples-pgd-5.h5")
    robust, standard = saved["digits-pgd-seed0"], saved["digits-standard-seed0"]
    assert_array_equal(robust.clean, standard.clean)
    assert robust.clean.shape == (4, 1, 8, 8)
    assert "pgd-5 (linf, ε = 0.1, 5 steps) on 4 images" in out
    assert f"{standard.adversarial_confidence[0]:.4f}" in out
    assert Path("compared-examples-pgd-5.png").exists()
    assert run([*arguments[:2], "--n", "2", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["provenance"]["objective"]["attack"]["steps"] == 20
    assert len(body["labels"]) == 2
    assert run([*arguments[:2], "--n", "200", "--overwrite"]) == 2
    assert "not in the range" in capsys.readouterr().err


def test_long_names_of_layers_are_shortened_and_stay_apart():
    from landscape.plotting.style import layer_labels

    names = [f"bert.encoder.layer.{i}.attention.output.LayerNorm.weight" for i in (0, 1)]
    assert layer_labels(["conv1.weight", *names]) == [
        "conv1.weight",
        "b.e.l.0.a.o.LayerNorm.weight",
        "b.e.l.1.a.o.LayerNorm.weight",
    ]
    alike = ["first.attention.output.weight", "fourth.attention.output.weight"]
    assert layer_labels(alike, 20) == alike
    assert layer_labels(["bert.embeddings.position_embeddings.weight"], 20) == [
        "b.e.position_embeddings.weight"
    ]
    assert layer_labels(["a_long.name_of.a_layer"], 5, whole=1) == ["a.n.a_layer"]
