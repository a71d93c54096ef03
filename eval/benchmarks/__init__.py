"""Benchmarks; one file each."""
