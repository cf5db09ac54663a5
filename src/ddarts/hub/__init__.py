"""Networks as files: model folders, the Hugging Face hub, timm, and checkpoints of the authors' code."""
