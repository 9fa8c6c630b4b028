"""The README stays true: its file tree, its commands, its numbers."""

import json
import re
from pathlib import Path

import pytest

from minidalle2.commands.cli import build_parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = json.loads((ROOT / "docs" / "results.json").read_text(encoding="utf-8"))


def test_every_file_of_the_package_is_in_the_tree():
    named = set(
        re.findall(r"[\w]+(?=\.py)|\b(?:diffusion|blocks|training|evaluation|commands)/", README)
    )
    named |= set(re.findall(r"\w+", README))
    for path in (ROOT / "minidalle2").rglob("*.py"):
        assert path.stem.startswith("__") or path.stem in named, path


def test_every_file_in_the_tree_exists():
    tree = README.split("minidalle2/\n", 1)[1].split("```")[0]
    folder = ROOT / "minidalle2"
    for name in re.findall(r"(\w+\.py)", tree):
        assert list(folder.rglob(name)), name


def test_every_picture_and_link_into_the_repository_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


@pytest.mark.parametrize(
    "command", re.findall(r"^python dev\.py ((?:draw|train|evaluate|export) .*)$", README, re.M)
)
def test_commands_parse(command):
    words = re.findall(r'"[^"]*"|\S+', command)
    build_parser().parse_args([word.strip('"') for word in words])


@pytest.mark.parametrize("row", RESULTS["rows"], ids=lambda row: f"{row['name']}-{row['split']}")
def test_numbers_are_those_measured(row):
    share = f"{row['accuracy']:.1%}".replace("%", " %")
    lines = [line for line in README.splitlines() if row["name"] in line]
    assert any(share in line for line in lines), f"{row['name']}: {share}"
