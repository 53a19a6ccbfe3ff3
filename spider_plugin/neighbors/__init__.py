"""`spider neighbors`: sources compared with a target by a feature network, ranked, and reported."""
