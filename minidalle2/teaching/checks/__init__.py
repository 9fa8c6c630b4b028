"""Checks of the exercises: each says what is wrong and where to look, none reveals the answer.

A check takes the learner's function, tries it on inputs of a seed, and returns nothing; it raises
CheckFailed with a hint.
"""
