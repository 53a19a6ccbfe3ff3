"""Files of any kind: the cache, atomic writes, downloads, progress lines, and the pieces of HTML pages."""
