"""C code for the loops that take most of a search's time on a CPU. Without it, PyTorch's operations do the same.

The C files are built with the package, once for each kind of processor (setup.py), and are plain C: they know neither
Python nor PyTorch. `ddarts.kernels.library` loads the build that fits; `ddarts.supernet.backends.cpu` calls it.
"""
