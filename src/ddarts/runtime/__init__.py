"""How a process runs: devices, several processes, signals, seeds, progress and files that appear whole."""
