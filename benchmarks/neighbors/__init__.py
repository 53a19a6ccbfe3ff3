"""Does a distance tell beforehand which source trains faster?"""
