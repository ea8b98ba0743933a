"""Surfaces in other programs' formats, and the page to rotate."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_surface import SMALL, X, Y, quadratic

import landscape as ls
from landscape.errors import DataError, UsageError
from landscape.exchange import read_goldstein, write_goldstein, write_vts
from landscape.plotting.page import save_page


def goldstein_file(path, nx, ny, loss):
    """A file filled in the order in which loss-landscape fills it."""
    x, y = np.linspace(-1, 1, nx), np.linspace(-2, 1, ny)
    values = -np.ones((len(x), len(y)))
    x_mesh, y_mesh = np.meshgrid(x, y)
    for index, (a, b) in enumerate(zip(x_mesh.ravel(), y_mesh.ravel(), strict=True)):
        values.ravel()[index] = loss(a, b)
    with h5py.File(path, "w") as file:
        file["dir_file"] = "resnet_weights.h5"
        file["xcoordinates"], file["ycoordinates"] = x, y
        file["train_loss"], file["train_acc"] = values, 50 * np.ones_like(values)
    return x, y


@pytest.mark.parametrize(("nx", "ny"), [(41, 21), (5, 5), (3, 7)])
def test_goldstein_there_and_back(nx, ny, tmp_path):
    x, y = goldstein_file(tmp_path / "his.h5", nx, ny, lambda a, b: a**2 + 3 * b)
    found = read_goldstein(tmp_path / "his.h5")
    for j, b in enumerate(y):
        for i, a in enumerate(x):
            assert found.loss[j, i] == a**2 + 3 * b or a**2 + 3 * b == -1
    assert_allclose(found.accuracy[np.isfinite(found.loss)], 0.5)
    found.save(tmp_path / "ours.h5")
    assert ls.load(tmp_path / "ours.h5") == found
    write_goldstein(found, tmp_path / "again.h5")
    with h5py.File(tmp_path / "his.h5") as his, h5py.File(tmp_path / "again.h5") as again:
        for name in ("xcoordinates", "ycoordinates", "train_loss", "train_acc"):
            assert_array_equal(his[name][()], again[name][()])
            assert his[name].shape == again[name].shape
    found.plot()


def test_a_surface_of_ours_there_and_back(tmp_path):
    objective, directions, _ = quadratic()
    surface = ls.surface(objective, directions, x=X, y=Y)
    write_goldstein(surface, tmp_path / "his.h5")
    back = read_goldstein(tmp_path / "his.h5")
    assert_array_equal(back.loss, surface.loss)
    assert back.centre_loss == surface.loss[surface.y == 0][0, surface.x == 0]
    line = ls.surface(objective, [directions[0]], x=SMALL["x"])
    write_goldstein(line, tmp_path / "line.h5")
    assert_array_equal(read_goldstein(tmp_path / "line.h5").loss, line.loss)


def test_vts_has_the_points_of_the_surface(tmp_path):
    objective, directions, _ = quadratic()
    surface = ls.surface(objective, directions, **SMALL)
    write_vts(surface, tmp_path / "s.vts")
    piece = ET.parse(tmp_path / "s.vts").getroot()[0][0]
    assert piece.attrib["Extent"] == "0 4 0 2 0 0"
    arrays = {a.attrib["Name"]: np.array(a.text.split(), float) for a in piece.iter("DataArray")}
    assert_array_equal(arrays["loss"], surface.loss.ravel())
    points = arrays["points"].reshape(3, 5, 3)
    assert_array_equal(points[..., 0], np.broadcast_to(surface.x, (3, 5)))
    assert_array_equal(points[..., 1], np.broadcast_to(surface.y[:, None], (3, 5)))
    assert_array_equal(points[..., 2], surface.loss)


def test_refusals(tmp_path):
    objective, directions, _ = quadratic()
    line = ls.surface(objective, [directions[0]], x=SMALL["x"])
    with pytest.raises(UsageError, match="export a surface of two dimensions"):
        write_vts(line, tmp_path / "x.vts")
    with pytest.raises(UsageError, match="several draws are no surface"):
        write_goldstein(ls.surface(objective, x=SMALL["x"], draws=2), tmp_path / "x.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1.0]
    with pytest.raises(DataError, match="lacks xcoordinates or train_loss"):
        read_goldstein(tmp_path / "other.h5")
    with h5py.File(tmp_path / "short.h5", "w") as file:
        file["xcoordinates"], file["train_loss"] = [0.0, 1.0], [1.0]
    with pytest.raises(DataError, match="train_loss has 1 values for a grid of 2 x 1"):
        read_goldstein(tmp_path / "short.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(DataError, match="not a readable HDF5 file"):
        read_goldstein(tmp_path / "text.h5")


def page(tmp_path):
    objective, directions, _ = quadratic()
    surface = ls.surface(objective, directions, **SMALL)
    return surface, save_page([surface, surface], ["a & b", "second"], tmp_path / "s.html")


def test_the_page_is_self_contained(tmp_path):
    pytest.importorskip("plotly")
    surface, path = page(tmp_path)
    text = path.read_text()
    assert "<title>a &amp; b, second: loss surface</title>" in text
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", text)
    assert f"seed {surface.provenance.seed}" in text
    objective, directions, _ = quadratic()
    line = ls.surface(objective, [directions[0]], x=SMALL["x"])
    with pytest.raises(UsageError, match="needs surfaces of two dimensions"):
        save_page([line], ["a"], tmp_path / "l.html")


def test_the_page_in_a_browser(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    _, path = page(tmp_path)
    # A browser of the system's, if playwright has downloaded none of its own.
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    own = next(filter(None, found), None)
    with playwright.sync_playwright() as p:
        try:
            browser = p.chromium.launch(
                executable_path=own, args=["--enable-unsafe-swiftshader", "--no-sandbox"]
            )
        except playwright.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        tab = browser.new_page()
        problems = []
        tab.on("pageerror", lambda error: problems.append(str(error)))
        # plotly says so if what it was given makes no sense.
        tab.on("console", lambda m: "WARN" in m.text and problems.append(m.text))
        tab.on("request", lambda r: r.url.startswith("http") and problems.append(r.url))
        tab.goto(path.as_uri())
        scene = tab.locator(".gl-container canvas").first
        scene.wait_for()
        tab.wait_for_timeout(1000)
        before = scene.screenshot()
        box = scene.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        tab.mouse.move(x, y)
        tab.mouse.down()
        tab.mouse.move(x + 150, y + 60, steps=5)
        tab.mouse.up()
        tab.wait_for_timeout(1000)
        assert scene.screenshot() != before  # it has rotated
        tab.mouse.move(x + 5, y + 5, steps=5)
        hover = tab.locator(".hovertext").first
        hover.wait_for(state="attached")
        assert re.search(r"loss [\d.]+", hover.text_content())
        assert not problems
        browser.close()
