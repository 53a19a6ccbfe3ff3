"""`spider report`: reads the folders of runs, of any host, and writes or serves one page about them."""
