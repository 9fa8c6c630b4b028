"""The structure of the package: which folder imports which, and how large the core is."""

import ast
import re
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "minidalle2"
CORE = (
    *sorted((PACKAGE / "blocks").glob("*.py")),
    *sorted((PACKAGE / "diffusion").glob("*.py")),
    *(PACKAGE / f"{name}.py" for name in ("tokenizer", "clip", "prior", "decoder", "upsampler")),
    PACKAGE / "unclip.py",
)
LONGEST_CORE = 2_000  # lines
MOST_ENTRIES = 22  # of the package's listing, with __init__ and __main__
MOST_FMT_SKIPS = 5


def modules_of(path: Path) -> set[str]:
    """The modules of the package that a file imports anywhere, in functions, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "minidalle2"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def lint(config: Path, monkeypatch) -> int:
    """The exit status of import-linter: 0 if every contract is kept."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    return lint_imports(config_filename=str(config), no_cache=True)


def test_imports_point_downwards_and_form_no_circles(monkeypatch, capsys):
    assert lint(ROOT / "pyproject.toml", monkeypatch) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("kept", "broken"),
    [
        # Every folder must be in the contract ...
        ('    "commands | teaching | bridge",\n', '    "teaching | bridge",\n'),
        # ... and dalle2 imports the priors, so dalle2 cannot lie below them.
        ('    "dalle2",\n    "priors",\n', '    "priors",\n    "dalle2",\n'),
    ],
)
def test_the_contract_can_fail(kept, broken, monkeypatch, tmp_path):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert kept in text
    config = tmp_path / "pyproject.toml"
    config.write_text(text.replace(kept, broken), encoding="utf-8")
    assert lint(config, monkeypatch) != 0


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_imports_nothing_from_outside_the_core(path):
    names = {module_name(core) for core in CORE}
    assert modules_of(path) <= names


def test_the_core_is_small():
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in CORE)
    assert lines <= LONGEST_CORE


def test_the_listing_is_short():
    not_read = {"__pycache__", "py.typed"}  # py.typed is empty, and type checkers look for it here
    entries = [path for path in PACKAGE.iterdir() if path.name not in not_read]
    assert len(entries) <= MOST_ENTRIES


def test_the_basic_loop_does_not_need_scale():
    """Training on one device in one process imports nothing of scale/."""
    for path in (PACKAGE / "training").rglob("*.py"):
        assert not any(name.startswith("minidalle2.scale") for name in modules_of(path)), path


def test_only_the_catalogue_knows_the_names_of_worlds():
    """No other code compares with the name of a world or with its class."""
    compared = re.compile(r"""[=!]= ?["'](shapes|emoji)["']|\.name (==|in)|isinstance\(\w*world""")
    found = {
        str(path.relative_to(PACKAGE)): match.group()
        for path in PACKAGE.rglob("*.py")
        for match in compared.finditer(path.read_text(encoding="utf-8"))
        if "teaching" not in path.parts
    }
    assert set(found) <= {"worlds/catalogue.py"}, found


def test_the_formatter_is_used():
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    marker = "fmt: " + "skip"
    skips = sum(path.read_text(encoding="utf-8").count(marker) for path in files)
    assert skips <= MOST_FMT_SKIPS


def test_nothing_intercepts_random_numbers():
    for path in PACKAGE.rglob("*.py"):
        assert "TorchFunctionMode" not in path.read_text(encoding="utf-8"), path
