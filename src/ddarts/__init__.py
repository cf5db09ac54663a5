"""ddarts: differentiable neural architecture search with cells of their own (D-DARTS, DARTOpti)."""
