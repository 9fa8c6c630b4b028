"""What the notebooks show with: figures, loss charts, explorers, and the checks of the exercises.

Nothing that DALL·E 2 needs is in here; the stages never import it.
"""
