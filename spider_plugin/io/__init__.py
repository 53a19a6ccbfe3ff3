"""Files: the cache, restricted reading of pickles, bundles that make snapshots portable."""
