"""The README is true: its Python runs, and the files and options it names exist."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

TEXT = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_examples_run(number, tmp_path):
    command = [sys.executable, "-c", PYTHON[number]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_named_files_exist():
    """Every path under the project's folders that the README names is there."""
    paths = re.findall(r"\b((?:scripts|tests|parity|jaxcnn)/[\w./-]*\w)", TEXT)
    assert len(paths) > 10
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_named_options_exist():
    """Every option in a command line of a script is one that the script has."""
    commands = re.findall(r"python (scripts/\w+\.py) ([^\n#`]*)", TEXT)
    assert len(commands) > 5
    options = {}
    for script, arguments in commands:
        for option in re.findall(r"--[\w-]+", arguments):
            recipe = arguments.split()[0] if "train.py" in script else None
            options.setdefault((script, recipe), set()).add(option)
    for (script, recipe), named in options.items():
        if named == {"--list"}:
            continue
        command = [sys.executable, str(ROOT / script), *([recipe] if recipe else []), "--help"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        assert not {option for option in named if option not in shown}, script
