def write(results, work):
    pass
