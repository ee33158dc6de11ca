"""Search measured against the field: simulated studies of recorded and surrogate learning curves.

What is searched: `tables`, that is LCBench (`lcbench`), recorded tables and synthetic families (`families`). Who
searches: `contestants`, that is the project's own strategies and the peers (`peers`, `syne_tune`) at the settings of
peers.toml. One line for each study is kept (`results`) and turned into figures (`measures`, `summary`, `draw`) by
``make bench-search``.
"""
