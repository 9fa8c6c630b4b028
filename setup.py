"""Adds data/emoji to the wheel. pyproject.toml has everything else.

The data is not a part of the package's folder, because it is data of the repository with its own
licences. An editable install finds it in the repository (minidalle2/worlds/emoji/names.py).
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SOURCE = Path(__file__).parent / "data" / "emoji"
TARGET = Path("minidalle2") / "worlds" / "emoji" / "data"


class BuildWithEmoji(build_py):
    """Copies the data and its licences, but not the programs that made the data."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / TARGET
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("*.py", "__pycache__"))


setup(cmdclass={"build_py": BuildWithEmoji})
