"""`spider demo` builds two small datasets from embedded scans, trains on them with and without a source, and writes a report."""
