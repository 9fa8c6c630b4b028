"""Runs a command on a fresh machine: makes .venv, installs what the command needs, and starts it.

It needs only the standard library. Python 2.7 and later must be able to parse this file, so that an
old Python prints one line that says that it is too old. Therefore it has no f-strings, annotations
or other new syntax.
"""

from __future__ import print_function

import hashlib
import os
import shutil
import subprocess
import sys

OLDEST = (3, 10)  # the same as requires-python in pyproject.toml
FIRST_NOTEBOOK = os.path.join("notebooks", "00_the_whole_machine.ipynb")
ROOT = os.path.dirname(os.path.abspath(__file__))
ENV = os.path.join(ROOT, ".venv")
PROMPTS = [
    "a large red circle",
    "a small blue star in the top left on a black background",
    "a small red circle above a large blue square",
    "a large yellow heart to the left of a small purple moon",
    "a green triangle in the top left, a pink ring in the top right "
    "and an orange cross in the bottom left",
    "a sign that says star",
]
# All tests of a file run in the same process, because they share fixtures. If a test kills its
# process, one new process continues. If the new process is killed, too, the run ends. The files
# start in the order of tests/conftest.py.
TWO_AT_A_TIME = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
TWO_AT_A_TIME += ["--max-worker-restart", "1"]
COMMANDS = """\
  python dev.py demo [PROMPT ...]    draw some prompts, or your own, into the folder outputs/
  python dev.py test [PYTEST ARGS]   run all tests, two at a time (-n 0: one at a time)
  python dev.py bridge               test the bridge against the packages of published networks
  python dev.py lab [NOTEBOOK ...]   open JupyterLab with the first notebook, or with your own
  python dev.py notebooks [FILE ...] execute the notebooks and save their outputs
  python dev.py COMMAND ...          run `minidalle2 COMMAND ...`: draw, train, evaluate, ...
The first command makes .venv beside dev.py. Each command installs there what it needs. `bridge`
uses .venv-bridge, because the packages of published networks do not fit beside the others."""


def refusal(version):
    """The message for a Python version (like sys.version_info) that is too old, else None."""
    if tuple(version[:2]) >= OLDEST:
        return None
    return (
        "dev.py: minidalle2 needs Python {}.{} or newer, but this is Python {}.{}; install a newer "
        "Python and use it, for example `python3.12 dev.py demo`".format(
            *(OLDEST + tuple(version[:2]))
        )
    )


def env_python(env):
    return os.path.join(env, "Scripts", "python.exe") if os.name == "nt" else env + "/bin/python"


def env_version(env):
    """(major, minor) of the environment's Python, None if this Python does not start."""
    code = "import sys; print('%d %d' % sys.version_info[:2])"
    try:
        output = subprocess.check_output([env_python(env), "-c", code], stderr=subprocess.STDOUT)
        return tuple(int(part) for part in output.split())
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def marker(env, extra):
    """The file that is written at the end of an installation of `extra`. It has the fingerprint."""
    return os.path.join(env, "finished-" + extra)


def fingerprint(root, extra, version):
    """A hash of everything that an installation depends on.

    These are two files, the extra, the version of Python and the path of the repository.
    """
    digest = hashlib.sha256(repr((root, extra, tuple(version[:2]))).encode("utf-8"))
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(root, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_finished(root, env, extra, version):
    if not os.path.isfile(marker(env, extra)):
        return False
    with open(marker(env, extra)) as file:
        return file.read() == fingerprint(root, extra, version)


def needed(root, env, extra, version):
    """What must be done: 'nothing', 'install' into the environment, or 'remake' the environment.

    Every installation first deletes the marker of "core". So an environment without this marker is
    incomplete and must be made again.
    """
    if not os.path.isfile(marker(env, "core")) or env_version(env) != tuple(version[:2]):
        return "remake"
    finished = [is_finished(root, env, part, version) for part in ("core", extra)]
    return "nothing" if all(finished) else "install"


def prepare(extra):
    """Installs into ENV what `extra` needs: "core" (drawing and training), "test", "lab" ..."""
    step = needed(ROOT, ENV, extra, sys.version_info)
    if step == "remake":
        make_env()
    if step != "nothing":
        install(extra)


def make_env():
    from importlib.util import find_spec  # does not exist in Python 2

    if not (find_spec("venv") and find_spec("ensurepip")):  # Debian has them in another package
        sys.exit(
            "dev.py: this Python lacks the modules venv and ensurepip, which make an environment; "
            "on Debian and Ubuntu install them with `sudo apt install python{}.{}-venv`".format(
                *sys.version_info[:2]
            )
        )
    name = os.path.basename(ENV)
    if os.path.lexists(ENV):
        print("The folder " + name + " is incomplete or broken. Making it again ...", flush=True)
        try:
            shutil.rmtree(ENV)
        except OSError as error:
            sys.exit(
                "dev.py: can't remove {} ({}); close the programs that use it, or delete it".format(
                    name, error
                )
            )
    else:
        print("Making " + name + " ...", flush=True)
    # If this Python is that of the old environment, sys.executable has just been deleted. The
    # Python from which the old environment was made still exists.
    if run([getattr(sys, "_base_executable", None) or sys.executable, "-m", "venv", ENV]) != 0:
        sys.exit("dev.py: making " + name + " failed, see above; the next run tries it again")


def install(extra):
    print("Installing packages. torch is the largest of them ...", flush=True)
    if os.path.isfile(marker(ENV, "core")):
        os.remove(marker(ENV, "core"))
    package = "." if extra == "core" else ".[" + extra + "]"
    pip = [env_python(ENV), "-m", "pip", "--disable-pip-version-check", "install"]
    if run(pip + ["-c", "constraints.txt", "-e", package]) != 0:
        sys.exit(
            "dev.py: pip did not install the packages, see above; check the network connection and "
            "the free disk space, then run the same command again"
        )
    for part in (extra, "core"):
        with open(marker(ENV, part), "w") as file:
            file.write(fingerprint(ROOT, part, sys.version_info))


def run(command, cwd=ROOT):
    """Runs a command and returns its exit status.

    Ctrl-C also reaches the command. It may have to clean up, so wait until it ends.
    """
    process = subprocess.Popen(command, cwd=cwd)
    while True:
        try:
            status = process.wait()
            return status if status >= 0 else 128 - status
        except KeyboardInterrupt:
            continue


def main(arguments):
    if refusal(sys.version_info):
        sys.exit(refusal(sys.version_info))
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(COMMANDS)
        return 0
    command, rest = arguments[0], arguments[1:]
    if command == "bridge":
        return test_bridge(rest)
    prepare({"test": "test", "lab": "lab", "notebooks": "lab"}.get(command, "core"))
    python = [env_python(ENV), "-m"]
    if command == "test":
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads do not help small tensors
        return run(python + ["pytest"] + TWO_AT_A_TIME + rest)
    if command == "lab":
        named = [part for part in rest if part.endswith(".ipynb")]
        return run(python + ["jupyterlab"] + rest + ([] if named else [FIRST_NOTEBOOK]))
    if command == "notebooks":
        return run(python + ["minidalle2.teaching.execute"] + rest, os.getcwd())
    if command != "demo":
        return run(python + ["minidalle2"] + arguments, os.getcwd())
    status = run(python + ["minidalle2", "draw", "--out", "outputs"] + (rest or PROMPTS))
    if status == 0:
        print("\nWhat next? Other commands:\n" + COMMANDS)
    return status


def test_bridge(rest):
    """Runs the tests of the bridge in an environment of its own."""
    global ENV
    ENV = os.path.join(ROOT, ".venv-bridge")
    prepare("bridge-test")
    quiet = ["-q", "-W", "ignore", "-o", "addopts="]  # none of the options of the other tests
    return run([env_python(ENV), "-m", "pytest"] + quiet + ["tests/test_bridge_peers.py"] + rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
