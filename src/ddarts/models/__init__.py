"""Architectures as PyTorch modules."""
