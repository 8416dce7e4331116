"""How several nodes become one device: providers of L{dst.interfaces.IAlgorithm}."""
