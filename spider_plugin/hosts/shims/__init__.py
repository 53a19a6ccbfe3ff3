"""What a host needs on a stack that its authors did not have: a row for each shim, and the view of torch without a GPU."""
