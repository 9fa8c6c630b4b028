"""How long the threads of OpenMP wait before they sleep. On a busy computer this decides the speed.

torch computes with several threads, which wait for each other thousands of times a second. Some
OpenMP runtimes let a waiting thread spin: it repeats a loop and keeps its processor core busy. On
an idle computer spinning saves a little time. If other programs need the cores, the spinning
threads take time from the threads that they wait for.

- libgomp, in the wheels of torch for Linux: GOMP_SPINCOUNT rounds of the loop, by default 300,000.
- libomp and libiomp5, in the wheels for macOS and Windows and in conda packages: KMP_BLOCKTIME
  milliseconds, by default 200. A processor with two kinds of cores does not spin by default.

On an idle Linux computer, OMP_WAIT_POLICY=PASSIVE (no spinning) made drawing 25 % slower, 1,000
rounds 11 % and 5,000 rounds 3 %. An OpenMP runtime reads these variables when it is loaded, which
is when torch is imported.
"""

from collections.abc import MutableMapping

SHORT = {"GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "1"}
OTHERS = ("OMP_WAIT_POLICY", "KMP_LIBRARY")  # they also set the time, with lower precedence


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Sets the variables, unless the user has chosen how threads wait by any variable.

    It has an effect only before torch is imported. Processes that are started later inherit it.
    """
    if not any(name in environment for name in (*SHORT, *OTHERS)):
        environment.update(SHORT)
