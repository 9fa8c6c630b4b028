"""An environment of its own for the peers: nothing of theirs enters the one minidalle2 lives in.

Ours runs there, too, from the repository's files, so that everybody has the same Python and torch.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LIST = Path(__file__).with_name("peers.txt")


def python_of(env: Path) -> Path:
    return env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare(env: Path) -> Path:
    """Make the environment hold what peers.txt lists; → its Python."""
    python, marker = python_of(env), env / "finished-peers"
    if marker.is_file() and marker.read_text() == LIST.read_text():
        return python
    if not python.is_file():
        print(f"making {env} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(env)], check=True)
    print("installing the peers, once ...", flush=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    # torch first, with what it needs; the others must not choose another one.
    subprocess.run([*pip, "torch==2.13.0"], check=True)
    subprocess.run([*pip, "--no-deps", "-r", str(LIST)], check=True)
    marker.write_text(LIST.read_text())
    return python
