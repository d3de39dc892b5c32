"""Scripts as whole processes, for tests of what a user sees."""

import os
import socket
import subprocess
import sys

from conftest import ROOT


def start(script, *arguments, cwd=ROOT):
    if script.endswith(".sh"):
        command = ["bash", str(ROOT / "scripts" / script)]
    else:
        command = [sys.executable, str(ROOT / f"scripts/{script}.py")]
    command += map(str, arguments)
    environment = os.environ | {"PYTHON": sys.executable}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, stdout=pipe, stderr=pipe, text=True, env=environment)


def call(script, *arguments, status=0, **options):
    process = start(script, *arguments, **options)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, out + err
    assert "Traceback" not in err
    return out + err


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
