"""Tools of the notebooks: figures, loss charts, explorers and the checks of the exercises.

DALL·E 2 does not need this package. No other module of minidalle2 imports it.
"""
