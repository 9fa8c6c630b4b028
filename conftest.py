"""Settings of pytest for the whole repository.

nbmake executes the notebooks with PatientClient, whose clean-up cannot hang.
"""

import importlib.util

if importlib.util.find_spec("nbmake"):  # an environment for the bridge only has no nbmake
    import nbmake.nb_run

    from minidalle2.teaching.kernel import PatientClient

    nbmake.nb_run.NotebookClient = PatientClient
