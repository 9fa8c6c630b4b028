"""The checks of the exercises. Each one says what is wrong and where to look, but not the solution.

A check calls the learner's function with inputs that depend on a seed. It prints that the answer is
right, or it raises CheckFailed with a hint.
"""
