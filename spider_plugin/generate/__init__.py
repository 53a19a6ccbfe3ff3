"""`spider generate` draws images, grids, walks and stage pictures from a snapshot."""
