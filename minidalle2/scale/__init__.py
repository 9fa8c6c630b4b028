"""What only large trainings need: GPUs, several processes, and batches that exceed the memory.

It also computes what the paper's networks would need (paper.py, cluster.py). Training on one
device in one process (training/) does not depend on anything here.
"""
