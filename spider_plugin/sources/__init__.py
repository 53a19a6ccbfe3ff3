"""Image sources: datasets, pretrained generators, procedural and control images."""
