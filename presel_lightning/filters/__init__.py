"""Filters of web-scale pools: rules over metadata, one a file, and sets of uids; no torch."""
