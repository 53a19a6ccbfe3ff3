"""Does a Spider generator learn faster than a tuned Gaussian one?"""
