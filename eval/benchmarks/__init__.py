"""Benchmarks that a config names; one file each."""
