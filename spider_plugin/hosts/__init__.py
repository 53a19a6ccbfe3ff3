"""What knows hosts: the attached line, the hook that it imports, questions about a host, shims, `spider doctor`."""
