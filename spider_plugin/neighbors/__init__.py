"""`spider neighbors` compares sources with a target by a feature network, ranks them and writes reports."""
