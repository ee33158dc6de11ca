"""How a network becomes a trained one: what feeds it, changes it, judges it and remembers it between two epochs."""
