"""Trained networks where they are used: exported files, their check against PyTorch, and measurements of cost."""
