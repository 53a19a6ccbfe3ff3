"""How good are short trainings of each network, with and without a source?"""
