"""Code that knows hosts: the attached line, the hook that it imports, queries about a host, shims, and `spider doctor`."""
