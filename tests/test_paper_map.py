"""The map from the paper to the code can't rot: what it names exists, and nothing is left out."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAP = ROOT / "docs" / "paper_to_code.md"
TEXT = MAP.read_text(encoding="utf-8")
COLUMNS = 5  # of the paper, what it says, code, notebook, tests
REFERENCE = re.compile(r"\[([^\]]+)\]\(([^)]+)\): (`[^`]+`(?:, `[^`]+`)*)")
NOTHING = re.compile(r"Nothing here: [^.]+\.")  # one sentence

# What the paper has, by the titles under which the map lists it.
EQUATIONS = [
    "§2, P(x given y)",
    "§2.2, z_i · z_t",
    "§2.2, L_prior",
    "§3.2, slerp(z_i1, z_i2, θ)",
    "§3.3, z_d = norm(z_t − z_t0)",
    "§3.3, slerp(z_i, z_d, θ)",
    "App. A, 1 / (1 + exp(f(x_i) − f(y_i)))",
    "App. B, the normal interval",
]
FIGURES = [f"Figure {k}" for k in range(1, 21)]
TABLES = [
    "Table 1, unCLIP (AR prior)",
    "Table 1, unCLIP (diffusion prior)",
    "Table 2, unCLIP (AR prior)",
    "Table 2, unCLIP (diffusion prior)",
    "Table 2, GLIDE",
    "Table 2, all others",
]
TABLE_3 = [
    f"Table 3, {row}"
    for row in (
        "diffusion steps",
        "noise schedule",
        "sampling steps",
        "sampling variance method",
        "crop fraction",
        "model size",
        "channels",
        "depth",
        "channels multiple",
        "heads channels",
        "attention resolution",
        "text encoder context",
        "text encoder width",
        "text encoder depth",
        "text encoder heads",
        "latent decoder context",
        "latent decoder width",
        "latent decoder depth",
        "latent decoder heads",
        "dropout",
        "weight decay",
        "batch size",
        "iterations",
        "learning rate",
        "Adam β2",
        "Adam ε",
        "EMA decay",
    )
]
LISTED = {"Equations": EQUATIONS, "Figures": FIGURES, "Tables 1 and 2": TABLES, "Table 3": TABLE_3}
SECTIONS = [
    "§2",
    "§2.1",
    "§2.2",
    "§3",
    "§3.1",
    "§3.2",
    "§3.3",
    "§4",
    "§5.1",
    "§5.2",
    "§5.3",
    "§5.4",
    "§5.5",
    "§7",
    "App. A",
    "App. B",
    "App. C",
    "App. D",
]


def rows(text: str) -> Iterator[tuple[str, list[str]]]:
    """→ (title, cells) of every row of the map's tables, their heads left out."""
    for part in text.split("\n## ")[1:]:
        title, *lines = part.splitlines()
        table = [line for line in lines if line.startswith("|")]
        for line in table[2:]:
            yield title, [cell.strip() for cell in line.strip("|").split(" | ")]


def references(cell: str) -> list[tuple[Path, str]]:
    """`[file](link): `name`, `name`; …` → (path, name) pairs; "–" is none. Raises ValueError for
    what is written in another way, or a link that leads elsewhere than it says."""
    found = []
    for part in [] if cell == "–" else cell.split("; "):
        match = REFERENCE.fullmatch(part)
        if not match:
            raise ValueError(f"{part!r} is no [file](link) with names")
        label, link, names = match.groups()
        if not f"/{link}".endswith(f"/{label}"):
            raise ValueError(f"{label} links to {link}")
        path = (MAP.parent / link).resolve()
        if not path.is_file():
            raise ValueError(f"there is no file {link}")
        found += [(path, name) for name in re.findall("`([^`]+)`", names)]
    return found


@cache
def defined(path: Path) -> frozenset[str]:
    """What a file itself defines, imports left out: `function`, `CONSTANT`, `Class`, and of a class
    `Class.method`, `Class.field` and what its methods keep in `self`."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names |= bound(node)
        if isinstance(node, ast.ClassDef):
            members = {name for member in node.body for name in bound(member)}
            members |= {name for inner in ast.walk(node) for name in bound(inner, of="self")}
            names |= {f"{node.name}.{member}" for member in members}
    return frozenset(names)


def bound(node: ast.AST, of: str | None = None) -> set[str]:
    """The names that a definition or an assignment binds, or those that it binds in `of`."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return set() if of else {node.name}
    if isinstance(node, ast.Assign):
        targets = [t for target in node.targets for t in getattr(target, "elts", [target])]
    else:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else []
    if of is None:
        return {target.id for target in targets if isinstance(target, ast.Name)}
    inside = [target for target in targets if isinstance(target, ast.Attribute)]
    return {t.attr for t in inside if isinstance(t.value, ast.Name) and t.value.id == of}


def can_import(path: Path, name: str) -> bool:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return hasattr(importlib.import_module(".".join(parts)), name.split(".")[0])


def notebooks(slug: str) -> list[Path]:
    """By its name, with a number before it or without."""
    found = (ROOT / "notebooks").glob("*.ipynb")
    return [path for path in found if re.fullmatch(rf"(\d\d_)?{re.escape(slug)}", path.stem)]


def faults(text: str) -> list[str]:
    """What is wrong with the rows of a map, a sentence each."""
    return [f"{cells[0]}: {fault}" for _, cells in rows(text) for fault in row_faults(cells)]


def row_faults(cells: list[str]) -> Iterator[str]:
    if len(cells) != COLUMNS or not all(cells):
        yield f"{len(cells)} cells, or an empty one"
        return
    _, _, code, notebook, tests = cells
    if code.startswith("Nothing"):
        if not NOTHING.fullmatch(code) or {notebook, tests} != {"–"}:
            yield "nothing is not one plain sentence and two dashes"
        return
    try:
        code, tests = references(code), references(tests)
    except ValueError as error:
        yield str(error)
        return
    if not code or not tests:
        yield "neither code and tests nor a sentence that says why not"
    for path, name in code:
        if name not in defined(path):
            yield f"{path.name} does not define {name}"
        elif not can_import(path, name):
            yield f"{name} can't be imported from {path.name}"
    for path, name in tests:
        if not name.split(".")[-1].startswith("test_") or name not in defined(path):
            yield f"{path.name} has no test {name}"
    if notebook != "–" and not re.fullmatch(r"`\w+`(, `\w+`)*", notebook):
        yield f"{notebook!r} are no names of notebooks"
    for slug in re.findall("`([^`]+)`", notebook):
        if len(notebooks(slug)) != 1:
            yield f"there are {len(notebooks(slug))} notebooks {slug}"


def test_all_that_is_named_exists():
    assert len(list(rows(TEXT))) > 90
    assert faults(TEXT) == []


def test_nothing_of_the_paper_is_missing_or_twice():
    named: dict[str, list[str]] = {}
    for title, cells in rows(TEXT):
        named.setdefault(title, []).append(cells[0])
    for title, expected in LISTED.items():
        assert named.pop(title) == expected, title
    (claims,) = named.values()
    assert list(dict.fromkeys(claim.split(",")[0] for claim in claims)) == SECTIONS
    everything = [cells[0] for _, cells in rows(TEXT)]
    assert len(set(everything)) == len(everything)


def test_the_readme_leads_here():
    assert "](docs/paper_to_code.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


GOOD = (
    "[prior.py](../minidalle2/prior.py): `Prior.forward`",
    "`prior`",
    "[test_prior.py](../tests/test_prior.py): `test_scale`",
)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("`Prior.forward`", "`Prior.backward`", "does not define Prior.backward"),
        ("`Prior.forward`", "`Diffusion`", "does not define Diffusion"),  # imported, not its own
        ("`Prior.forward`", "`Prior.forward`, `Prior.z_t`", "does not define Prior.z_t"),  # a local
        ("2/prior.py", "2/posterior.py", "links to"),
        ("[prior.py](../minidalle2/", "[gone/prior.py](../minidalle2/gone/", "no file"),
        ("): `Prior.forward`", ") `Prior.forward`", "no [file](link)"),
        (GOOD[0], "–", "neither code and tests"),
        (GOOD[2], "–", "neither code and tests"),
        (GOOD[0], "Nothing here: why. Because.", "one plain sentence"),
        (GOOD[0], "Nothing here: but a test.", "one plain sentence"),
        ("`test_scale`", "`test_scales`", "no test test_scales"),
        ("`test_scale`", "`prior`", "no test prior"),  # defined there, a fixture
        ("`prior`", "`posterior`", "0 notebooks posterior"),
        ("`prior`", "prior", "no names of notebooks"),
        ("§2", "", "an empty one"),
    ],
)
def test_what_is_wrong_is_found(old, new, said):
    good = "\n## T\n| a | b | c | d | e |\n|---|\n| §2 | it | {} | {} | {} |".format(*GOOD)
    assert faults(good) == []
    found = faults(good.replace(old, new))
    assert len(found) == 1 and said in found[0]
