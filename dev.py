"""Everything on a fresh machine: makes .venv, installs what a command needs, and runs it.

Standard library only. It must parse on every old Python, down to 2.7, so that it can say in one
line that such a Python is too old: no f-strings, annotations or other new grammar here.
"""

from __future__ import print_function

import hashlib
import os
import shutil
import subprocess
import sys

OLDEST = (3, 10)  # as requires-python in pyproject.toml
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
# A file's tests share what it made: one process. If a test kills it, another goes on from there;
# if that is killed as well, the run ends.
TWO_AT_A_TIME = ["-n", "2", "--dist", "loadfile", "--max-worker-restart", "1"]
COMMANDS = """\
  python dev.py demo [PROMPT ...]    draw a handful of prompts, or your own, into outputs/
  python dev.py test [PYTEST ARGS]   run all tests, two at a time (-n 0: one by one)
  python dev.py lab                  open JupyterLab
  python dev.py notebooks [FILE ...] execute the notebooks and keep their outputs
  python dev.py COMMAND ...          draw, train, evaluate or export, as `minidalle2 COMMAND ...`
The first of them makes .venv beside dev.py; each installs there what it lacks."""


def refusal(version):
    """Why a Python of this version (as sys.version_info) can't be used, or None."""
    if tuple(version[:2]) >= OLDEST:
        return None
    return (
        "dev.py: minidalle2 needs Python {}.{} or newer, but this is Python {}.{}; install a newer "
        "one and use it, say `python3.12 dev.py demo`".format(*(OLDEST + tuple(version[:2])))
    )


def env_python(env):
    return os.path.join(env, "Scripts", "python.exe") if os.name == "nt" else env + "/bin/python"


def env_version(env):
    """(major, minor) of the environment's interpreter, None where it doesn't start."""
    code = "import sys; print('%d %d' % sys.version_info[:2])"
    try:
        output = subprocess.check_output([env_python(env), "-c", code], stderr=subprocess.STDOUT)
        return tuple(int(part) for part in output.split())
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def marker(env, extra):
    """The file that an install of `extra` ends with, holding its fingerprint."""
    return os.path.join(env, "finished-" + extra)


def fingerprint(root, extra, version):
    """What an install depends on: two files, the extra, Python, and the place of the repository."""
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
    """'nothing', 'install' into the environment as it is, or 'remake' it.

    Every install first takes the marker of "core" away, so an environment without it was left
    half-made, and nothing in it is trusted.
    """
    if not os.path.isfile(marker(env, "core")) or env_version(env) != tuple(version[:2]):
        return "remake"
    finished = [is_finished(root, env, part, version) for part in ("core", extra)]
    return "nothing" if all(finished) else "install"


def prepare(extra):
    """Make .venv hold what `extra` needs: "core" (drawing and training), "test" or "lab"."""
    step = needed(ROOT, ENV, extra, sys.version_info)
    if step == "remake":
        make_env()
    if step != "nothing":
        install(extra)


def make_env():
    from importlib.util import find_spec  # Python 2 has none

    if not (find_spec("venv") and find_spec("ensurepip")):  # Debian splits them off
        sys.exit(
            "dev.py: this Python has no venv and ensurepip modules, which make .venv; on Debian "
            "and Ubuntu `sudo apt install python{}.{}-venv` adds them".format(*sys.version_info[:2])
        )
    if os.path.lexists(ENV):
        print("The .venv here is unfinished or broken: making it anew ...", flush=True)
        try:
            shutil.rmtree(ENV)
        except OSError as error:
            sys.exit("dev.py: can't remove it ({}); close what uses it or delete it".format(error))
    else:
        print("Making .venv ...", flush=True)
    # Inside the old .venv sys.executable has just been deleted; the one it was made from has not.
    if run([getattr(sys, "_base_executable", None) or sys.executable, "-m", "venv", ENV]) != 0:
        sys.exit("dev.py: making .venv failed, see above; the next run makes it anew")


def install(extra):
    print("Installing into .venv, once; torch is most of it ...", flush=True)
    if os.path.isfile(marker(ENV, "core")):
        os.remove(marker(ENV, "core"))
    package = "." if extra == "core" else ".[" + extra + "]"
    pip = [env_python(ENV), "-m", "pip", "--disable-pip-version-check", "install"]
    if run(pip + ["-c", "constraints.txt", "-e", package]) != 0:
        sys.exit(
            "dev.py: pip did not install the packages, see above; check the connection and the "
            "free disk space, then run the same command again"
        )
    for part in (extra, "core"):
        with open(marker(ENV, part), "w") as file:
            file.write(fingerprint(ROOT, part, sys.version_info))


def run(command, cwd=ROOT):
    """The exit status. Ctrl-C reaches the child too, which stops in its own way: wait for it."""
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
    prepare({"test": "test", "lab": "lab", "notebooks": "lab"}.get(command, "core"))
    python = [env_python(ENV), "-m"]
    if command == "test":
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors leave a second thread idle
        return run(python + ["pytest"] + TWO_AT_A_TIME + rest)
    if command == "lab":
        return run(python + ["jupyterlab"] + rest)
    if command == "notebooks":
        return run(python + ["minidalle2.teaching.execute"] + rest, os.getcwd())
    if command != "demo":
        return run(python + ["minidalle2"] + arguments, os.getcwd())
    status = run(python + ["minidalle2", "draw", "--out", "outputs"] + (rest or PROMPTS))
    if status == 0:
        print("\nWhat next:\n" + COMMANDS)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
