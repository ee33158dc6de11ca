"""One study on this machine: understand, begin, start workers, watch, pack, conclude. Never imports Keras."""
