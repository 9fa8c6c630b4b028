"""How long threads wait is set before torch is imported, and the user's choice is kept."""

import os
import subprocess
import sys

import pytest

from minidalle2.storage.openmp import OTHERS, SHORT, wait_briefly


def test_threads_wait_briefly_by_default():
    environment = {"PATH": "x"}
    wait_briefly(environment)
    assert environment == {"PATH": "x", "GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "1"}
    wait_briefly(environment)  # a process that a process of ours has started
    assert environment == {"PATH": "x", **SHORT}


@pytest.mark.parametrize("name", [*SHORT, "OMP_WAIT_POLICY", "KMP_LIBRARY"])
def test_the_choice_of_the_user_is_kept(name):
    """Each of our variables has precedence over OMP_WAIT_POLICY, so none may be added to it."""
    environment = {name: "0"}
    wait_briefly(environment)
    assert environment == {name: "0"}


def test_it_is_set_before_torch_is_imported():
    """`import minidalle2` is the first line of every notebook, and precedes every command."""
    code = "import os, sys, minidalle2; assert 'torch' not in sys.modules\n"
    code += "print(os.environ['GOMP_SPINCOUNT'], os.environ['KMP_BLOCKTIME'])"
    clean = {key: value for key, value in os.environ.items() if key not in (*SHORT, *OTHERS)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["5000", "1"]
