"""What a storage stands on: providers of L{dst.interfaces.INode}."""
