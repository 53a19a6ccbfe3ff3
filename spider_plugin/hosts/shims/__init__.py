"""Adaptations of hosts to a stack that their authors did not have: a row for each shim, and a view of torch without a GPU."""
