"""How much time and memory do layers, steps, networks and measures take?"""
