"""From shards to batches: what is learned, in which order, packed so that a shared prefix is computed once."""
