"""Settings of pytest for the whole repository.

`import minidalle2` comes before any import of torch (storage/openmp.py). nbmake executes the
notebooks with PatientClient, whose clean-up cannot hang.
"""

import importlib.util

import minidalle2  # noqa: F401

if importlib.util.find_spec("nbmake"):  # an environment for the bridge only has no nbmake
    import nbmake.nb_run

    from minidalle2.teaching.kernel import PatientClient

    nbmake.nb_run.NotebookClient = PatientClient
