"""C code for the loops that take most of a search's time on a CPU. PyTorch's operations do the same where it is missing.

forward.c and backward.c are built with the package, once for each kind of processor (setup.py), and are plain C: they know
neither Python nor PyTorch. `ddarts.kernels.library` loads the build that fits; `ddarts.models.fused` calls it.
"""
