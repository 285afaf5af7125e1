"""VBench's rules and formats: dimensions, VBench-Long, names, result files. Imports no metric."""
