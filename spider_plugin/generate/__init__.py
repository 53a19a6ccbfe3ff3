"""`spider generate`: images, grids, walks and stage pictures from a snapshot."""
