"""Generated data, real servers and programs in processes, for tests and benchmarks."""
