"""The supernet's grouped edges on PyTorch's operations, on the CPU kernels, and under torch.compile."""
