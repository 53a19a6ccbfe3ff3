"""The training options, a file for each group: its options, and the edit that they make to a host's config."""
