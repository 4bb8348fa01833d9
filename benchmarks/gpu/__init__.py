"""What a GPU does with convae, in one command: `benchmarks/gpu.sh --help`."""
