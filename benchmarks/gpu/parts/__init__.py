"""The parts of the measurement: one file each, with `measure` and `table`."""
