"""The rules of the house: who imports what, and that importing does nothing."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from long_tests import LONG

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "jaxcnn").rglob("*.py"))

# What may be imported only where: package -> files and folders below the project.
ONLY_IN = {
    "torch": [],
    "tensorflow": [],
    "parity": [],
    "flax.linen": ["jaxcnn/models/", "jaxcnn/layers/"],
    "orbax": ["jaxcnn/checkpoint.py"],
    "tensorflow_datasets": ["jaxcnn/data/"],
    "tyro": [],
    "argparse": [],
}


def imported(path):
    """Yield every dotted name that a file imports, `from a import b` as a.b too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", ONLY_IN)
def test_imports_stay_in_their_rooms(package):
    offenders = {
        str(path.relative_to(ROOT))
        for path in FILES
        for name in imported(path)
        if name == package or name.startswith(f"{package}.")
    }
    allowed = ONLY_IN[package]
    assert not {p for p in offenders if not any(p.startswith(room) for room in allowed)}
    assert offenders or not allowed, f"nothing imports {package} any more: the rule is stale"


def test_every_test_file_is_named_after_something():
    """Files of the library that hold code have a test file that imports them."""
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    for path in FILES:
        module = path.stem if path.stem != "__init__" else path.parent.name
        assert module in tests or path.parent.name in tests, f"no test names {path}"


# Every finder is asked through one that does not know the packages: as if not installed.
BLOCKED = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in ("torch", "tensorflow", "parity"):
            return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""


def run_python(code, **environment):
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_does_nothing():
    """No submodule, no JAX, no file: `import jaxcnn` costs milliseconds."""
    out = run_python(
        BLOCKED + "import jaxcnn; heavy = {'jax', 'flax', 'optax', 'numpy', 'orbax'} "
        "& set(sys.modules); print(sorted(heavy))"
    )
    assert out.strip() == "[]"


def test_submodules_import_without_torch_and_without_asking_for_a_device():
    modules = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in FILES
    ]
    code = BLOCKED + "import importlib, jax\nbefore = dict(jax.config.values)\n"
    code += "".join(f"importlib.import_module({name!r})\n" for name in modules)
    code += "assert dict(jax.config.values) == before, 'an import changed the configuration'\n"
    # A platform that does not exist: the first question to a device would fail.
    run_python(code, JAX_PLATFORMS="nowhere")


def test_trains_without_torch_and_tensorflow(tmp_path):
    code = f"""
{BLOCKED}
from dataclasses import replace
from pathlib import Path
from jaxcnn import data, models, recipes, runs
settings = replace(recipes.RECIPES["digits-cnn"][1], epochs=1)
dataset = data.load("digits", models.input_shape(settings.network))
print(runs.train(settings, dataset, Path({str(tmp_path)!r}))["accuracy"])
"""
    assert float(run_python(code).splitlines()[-1]) > 0.5


def test_long_tests_are_there():
    """A test that was renamed would come back into every run unseen."""
    for test in LONG:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), test
