"""The short campaign, and that it can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults import table

RUN = "import runpy; runpy.run_module('faults', run_name='__main__', alter_sys=True)"
TESTS = Path(__file__).parents[1]


def campaign(*arguments, code=""):
    """``python -m faults``, after ``code``: a process of its own, which forks."""
    paths = [str(TESTS.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code}\n{RUN}",
            *arguments,
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )


# In two processes, as importing takes long.
@pytest.mark.parametrize("names", ["train figure sweep", "spectrum surface connect plot"])
def test_every_fault_of_the_short_campaign_is_survived(names, tmp_path):
    done = campaign("--short", *names.split(), "--json", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())["found"]
    assert all(
        o["injected"] for _, _, outcomes in found for o in outcomes if "after" not in o["what"]
    )
    assert sum(len(outcomes) for _, _, outcomes in found) >= 3


NOT_ATOMIC = """
import os
from pathlib import Path
from landscape import files

def write(path, content, *, overwrite=False):
    with open(path, "wb") as stream:
        stream.write(bytes(content)[:100])
        stream.flush()
        os.fsync(stream.fileno())
        stream.write(bytes(content)[100:])
    return Path(path)

files.write_atomic = write
"""
FORGETFUL = """
from landscape.cli.resume import Partial
Partial.keep = lambda self, result: None
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [(NOT_ATOMIC, "s.partial.h5"), (FORGETFUL, "points done, 0 kept")],
    ids=["not atomic", "forgetful"],
)
def test_the_campaign_notices(code, said):
    done = campaign("surface", "--kind", "kill -9 at an operation", "--count", "12", code=code)
    assert done.returncode == 1
    assert "NOT SURVIVED: surface" in done.stderr
    assert said in done.stderr


def test_the_table_goes_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- faults -->\nold\n<!-- /faults -->\nb\n")
    table.write(page, {}, "Seed 0.")
    text = page.read_text()
    assert text.startswith("a\n<!-- faults -->\nSeed 0.\n\n| command |")
    assert text.endswith("<!-- /faults -->\nb\n")
    assert "old" not in text
