"""Loops over text that numba compiles: the same results as plain Python, a hundred times faster.

Each kernel works on a range of documents without Python's lock, so that threads share the work. A
kernel calls only kernels of its own file: numba's cache does not see changes in other files.
"""
