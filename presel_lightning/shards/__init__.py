"""WebDataset shards: reading, resharding by a set of uids, packing."""
