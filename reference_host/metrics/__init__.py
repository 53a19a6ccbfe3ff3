"""Quality metrics of generators."""
