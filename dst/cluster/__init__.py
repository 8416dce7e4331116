"""From a topology, as values, to running nodes, storages and exports."""
