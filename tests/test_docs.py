"""The manual: it builds without a warning, and everything in it runs as it stands there."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from landscape import cli

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(
    [DOCS / "start.md", *(DOCS / "guides").glob("*.md"), *(DOCS / "measurements").glob("*.md")]
)
# Of the user's own shell: not to be run here.
SHELL = ("python3 -m venv", "pip install")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, content) of every code block of a page."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_can_be_followed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, object] = {"__name__": "page"}
    ran = 0
    for language, content in blocks(page):
        first, _, rest = content.partition("\n")
        if first.startswith("# file: "):
            Path(first.removeprefix("# file: ")).write_text(rest)
        elif language == "python":
            exec(compile(content, str(page), "exec"), names)
            ran += 1
        elif language == "console":
            for line in content.splitlines():
                assert line.startswith("$ "), line
                ran += _shell(line.removeprefix("$ "), capsys)
    assert ran or page.stem == "large"
    for name in [m for m, module in sys.modules.items() if _lies_in(module, tmp_path)]:
        del sys.modules[name]


def _shell(line: str, capsys: pytest.CaptureFixture[str]) -> int:
    words = shlex.split(line)
    if line.startswith(SHELL):
        return 0
    if words[0] == "python":
        runpy.run_path(words[1], run_name="__main__")
        return 1
    assert words[0] == "landscape", line
    capsys.readouterr()
    code = cli.run(words[1:])
    said = capsys.readouterr().err
    # Robustness of bundled networks and of a first network need not look unmasked.
    assert code in ((0, 3) if words[1] in ("evaluate", "connect") else (0,)), f"{line}: {said}"
    return 1


def _lies_in(module: object, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)


def test_every_measurement_has_a_page() -> None:
    from landscape.diagnostics import DIAGNOSTICS

    text = "\n".join(page.read_text() for page in (DOCS / "measurements").glob("*.md"))
    for name, entry in DIAGNOSTICS.items():
        assert f"landscape.{entry.function.__name__}\n" in text, name
        assert f"landscape.{entry.result.__name__}\n" in text, name


def test_the_manual_builds_without_a_warning(tmp_path: Path) -> None:
    sphinx = pytest.importorskip("sphinx.cmd.build")
    code = sphinx.build_main(
        ["-q", "-W", "--keep-going", "-b", "html", str(DOCS), str(tmp_path / "html")]
    )
    assert code == 0
    pages = {page.stem for page in (tmp_path / "html").rglob("*.html")}
    assert {page.stem for page in PAGES} <= pages
