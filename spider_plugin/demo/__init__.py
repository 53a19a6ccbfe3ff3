"""`spider demo`: two small datasets of embedded real data, two training runs side by side, one report."""
