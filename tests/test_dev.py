"""dev.py, .ci/run, and that all files agree about versions. Nothing is installed here."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import dev

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")  # constraints.txt must serve each
VERSION = sys.version_info
NEWER_GRAMMAR = (
    ast.JoinedStr,
    ast.NamedExpr,
    ast.AnnAssign,
    ast.Nonlocal,
    ast.YieldFrom,
    ast.AsyncFunctionDef,
    ast.Await,
    ast.Match,
)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> set[str]:
    """Top-level names of all modules that a file imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


def old_pythons() -> list[str]:
    """Interpreters older than 3.10, from PATH and from pyenv where there is one."""
    names = ("python2.7", "python3.6", "python3.7", "python3.8", "python3.9")
    versions = (Path.home() / ".pyenv/versions").glob("*/bin/python")
    found = [shutil.which(name) for name in names] + [str(path) for path in versions]
    return [python for python in found if python and starts_and_is_old(python)]


def starts_and_is_old(python: str) -> bool:
    code = "import sys; sys.exit(sys.version_info >= (3, 10))"
    return subprocess.run([python, "-c", code], stderr=subprocess.DEVNULL).returncode == 0


# ---- old Pythons


def test_dev_has_only_grammar_of_old_pythons():
    tree = tree_of(ROOT / "dev.py")
    assert (ROOT / "dev.py").read_bytes().isascii()  # Python 2 reads nothing else undeclared
    assert not [node for node in ast.walk(tree) if isinstance(node, NEWER_GRAMMAR)]
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        signature = function.args
        assert not signature.kwonlyargs and not signature.posonlyargs and not function.returns
        assert not any(argument.annotation for argument in signature.args)


def test_real_old_pythons_get_one_line():
    pythons = old_pythons()
    if not pythons:
        pytest.skip("no Python older than 3.10 here")
    for python in pythons:
        done = subprocess.run([python, "dev.py", "demo"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1 and not done.stdout, (python, done)
        assert done.stderr.count("\n") == 1 and "needs Python 3.10 or newer" in done.stderr, python


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 15), (3, 9, 18)])
def test_too_old_is_refused(version):
    assert "this is Python {}.{};".format(*version) in dev.refusal(version)


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 11, 7, "final", 0), (4, 0, 0)])
def test_new_enough_is_not(version):
    assert dev.refusal(version) is None


def test_dev_imports_only_the_standard_library():
    assert imported(tree_of(ROOT / "dev.py")) <= sys.stdlib_module_names


# ---- a whole, half-made, stale or broken .venv


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """dev.py pointed at an empty repository; commands are recorded in `ran` instead of run."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(dev, "ROOT", str(tmp_path))
    monkeypatch.setattr(dev, "ENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(dev, "status", 0, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # so that what dev.py sets ends with the test
    dev.ran = []

    def run(command, cwd=None):
        dev.ran.append([str(part) for part in command])
        if command[1:3] == ["-m", "venv"]:
            venv.create(dev.ENV, with_pip=False, symlinks=os.name != "nt")
        return dev.status

    monkeypatch.setattr(dev, "run", run)
    return dev


def needed(sandbox, extra: str = "core") -> str:
    return sandbox.needed(sandbox.ROOT, sandbox.ENV, extra, VERSION)


def test_first_run_makes_installs_and_the_second_does_nothing(sandbox):
    assert needed(sandbox) == "remake"
    sandbox.prepare("core")
    assert [command[2] for command in sandbox.ran] == ["venv", "pip"]
    assert needed(sandbox) == "nothing"
    sandbox.prepare("core")
    assert len(sandbox.ran) == 2


def test_extras_are_added_to_the_same_environment(sandbox):
    sandbox.prepare("core")
    assert needed(sandbox, "test") == needed(sandbox, "lab") == "install"
    sandbox.prepare("test")
    sandbox.prepare("lab")
    assert [command[-1] for command in sandbox.ran[1:]] == [".", ".[test]", ".[lab]"]
    assert {needed(sandbox, extra) for extra in ("core", "test", "lab")} == {"nothing"}


def test_unfinished_environment_is_remade(sandbox):
    sandbox.prepare("core")
    sandbox.status = 1
    with pytest.raises(SystemExit, match="pip did not install"):
        sandbox.prepare("test")
    assert needed(sandbox) == needed(sandbox, "test") == "remake"
    sandbox.status = 0
    sandbox.prepare("test")
    assert needed(sandbox) == needed(sandbox, "test") == "nothing"


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_anew(sandbox, name):
    sandbox.prepare("test")
    Path(sandbox.ROOT, name).write_text("changed")
    assert needed(sandbox) == needed(sandbox, "test") == "install"


def test_moved_repository_is_installed_anew(sandbox, tmp_path):
    sandbox.prepare("core")
    moved = tmp_path / "moved"
    shutil.copytree(sandbox.ROOT, moved, symlinks=True, ignore=shutil.ignore_patterns("moved"))
    assert dev.needed(str(moved), str(moved / ".venv"), "core", VERSION) == "install"


def test_environment_whose_python_does_not_start_is_remade(sandbox):
    sandbox.prepare("core")
    python = Path(sandbox.env_python(sandbox.ENV))
    python.unlink()
    assert needed(sandbox) == "remake"
    python.write_text("not a program")
    assert needed(sandbox) == "remake"


def test_environment_of_another_python_is_remade(sandbox):
    sandbox.prepare("core")
    other = (VERSION[0], VERSION[1] + 1)
    assert sandbox.needed(sandbox.ROOT, sandbox.ENV, "core", other) == "remake"


def test_missing_venv_module_is_one_line(sandbox, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"sudo apt install python3\.\d+-venv") as stopped:
        sandbox.prepare("core")
    assert "\n" not in str(stopped.value)


# ---- commands


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_installs_nothing(sandbox, capsys, arguments):
    assert dev.main(arguments) == 0
    assert sandbox.ran == [] and "dev.py demo" in capsys.readouterr().out


def last_command(sandbox, *arguments: str) -> list[str]:
    sandbox.prepare("core")
    dev.main(list(arguments))
    return sandbox.ran[-1][2:]


def test_commands(sandbox, capsys):
    draw = ["minidalle2", "draw", "--out", "outputs"]
    assert last_command(sandbox, "demo") == draw + dev.PROMPTS
    assert "What next" in capsys.readouterr().out
    assert last_command(sandbox, "demo", "a ring", "-n", "2") == [*draw, "a ring", "-n", "2"]
    pytest_two = ["pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    pytest_two += ["--max-worker-restart", "1"]
    assert last_command(sandbox, "test", "-k", "clip") == [*pytest_two, "-k", "clip"]
    first = os.path.join("notebooks", "00_the_whole_machine.ipynb")
    assert (ROOT / first).is_file()
    assert last_command(sandbox, "lab") == ["jupyterlab", first]
    assert last_command(sandbox, "lab", "--no-browser") == ["jupyterlab", "--no-browser", first]
    assert last_command(sandbox, "lab", "a.ipynb") == ["jupyterlab", "a.ipynb"]
    assert last_command(sandbox, "train", "clip") == ["minidalle2", "train", "clip"]


def test_tests_have_a_thread_each_unless_told_otherwise(sandbox, monkeypatch):
    last_command(sandbox, "test")
    assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    last_command(sandbox, "test")
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_status_of_the_command_is_passed_on(sandbox, capsys):
    sandbox.prepare("test")
    sandbox.status = 5  # pytest: no test ran
    assert dev.main(["test"]) == 5
    assert dev.main(["demo"]) == 5 and "What next" not in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_waits_for_the_command():
    child = (
        "import time\ntry:\n print('ready', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n time.sleep(1); print('saved'); raise SystemExit(7)"
    )
    parent = (  # a shell's background job, as some CI runs us, would ignore SIGINT
        "import dev, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"sys.exit(dev.run([sys.executable, '-c', {child!r}]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "saved\n" and process.returncode == 7


# ---- .ci/run


def ci_run(folder: Path, path: str) -> subprocess.CompletedProcess:
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", folder / ".ci/run")
    (folder / "dev.py").write_text("import sys; print(sys.argv[1:]); sys.exit(5)")
    return subprocess.run(
        ["bash", str(folder / ".ci/run")],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(os.name == "nt", reason="bash")
def test_ci_runs_dev_test_and_keeps_its_status(tmp_path):
    done = ci_run(tmp_path, f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert (done.stdout, done.returncode) == ("['test']\n", 5)


@pytest.mark.skipif(os.name == "nt", reason="bash")
def test_ci_without_a_python_says_so(tmp_path):
    for name in ("python3", "python"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    done = ci_run(tmp_path, f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 1 and "no Python 3.10" in done.stderr


# ---- the files agree about versions

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
CORE = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(text) for text in texts]
    for name, texts in PROJECT["optional-dependencies"].items()
}

DIRECT = [*CORE, *(r for name in ("emoji", "lab", "classroom", "test") for r in EXTRAS[name])]
DIRECT = [requirement for requirement in DIRECT if requirement.name != "minidalle2"]


def constraints() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def applies(requirement: Requirement, python: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"python_version": python})


@pytest.mark.parametrize("python", PYTHONS)
def test_every_direct_dependency_is_pinned_once_within_its_bounds(python):
    pins = [pin for pin in constraints() if applies(pin, python)]
    names = [pin.name.lower() for pin in pins]
    assert len(names) == len(set(names))
    for wanted in DIRECT:
        if not applies(wanted, python):
            continue
        (pin,) = [pin for pin in pins if pin.name.lower() == wanted.name.lower()]
        (exact,) = pin.specifier
        assert exact.operator == "==" and wanted.specifier.contains(exact.version), (pin, wanted)


def test_bounds_are_loose():
    for wanted in DIRECT:
        assert [bound.operator for bound in wanted.specifier] == [">="], wanted


def test_all_is_lab_and_test():
    (everything,) = EXTRAS["all"]
    assert everything.name == "minidalle2" and everything.extras == {"lab", "test"}


def test_oldest_python_is_the_same_everywhere():
    oldest = "{}.{}".format(*dev.OLDEST)
    assert SpecifierSet(PROJECT["requires-python"]) == SpecifierSet(f">={oldest}")
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"][0] == PYTHONS[0] == oldest


def test_environment_file():
    assert ENVIRONMENT["name"] == "minidalle2"
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]
    python, pip, listed = ENVIRONMENT["dependencies"]
    assert python.startswith("python=3.") and pip == "pip" and list(listed) == ["pip"]
    assert python.removeprefix("python=") in PYTHONS
    torch, package = listed["pip"]
    assert Requirement(torch) in constraints() and package == "-e .[all]"


def test_the_package_imports_only_core_dependencies():
    """Teaching also needs the lab, the emoji world what draws it; nothing else needs teaching."""
    modules = {"pillow": "PIL"}
    core = {modules.get(wanted.name, wanted.name) for wanted in CORE} | {"minidalle2"}
    lab = {wanted.name for wanted in EXTRAS["lab"]} | {"IPython"}
    for path in (ROOT / "minidalle2").rglob("*.py"):
        teaching = "teaching" in path.parts
        allowed = core | lab if teaching else core
        if "emoji" in path.parts:
            allowed = core | {"resvg_py"}
        assert imported(tree_of(path)) <= allowed | sys.stdlib_module_names, path
        assert teaching or "minidalle2.teaching" not in path.read_text(encoding="utf-8"), path
