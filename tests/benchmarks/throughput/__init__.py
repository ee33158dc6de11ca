"""Throughput measured: what the service adds to training itself, in time and in memory.

``make bench-overhead`` (`overhead`) runs one list of configurations in every contestant (`contestants`): the service's
own command line, and programs as their users write them, which import nothing of this project (`peer_optuna`,
`peer_keras_tuner`, `peer_bound`, all three with the network of `peer_network`, on the data of `task`).
``make bench-memory`` (`memory`) runs many short trials in one worker, and times the way to the first step
(`peer_first_step`). ``make bench-gpu`` (`gpu`) counts images per second of one trial and of several at once
(`gpu_trial`). What is computed of the measurements is in `measures`, what is read of what programs print in `parsing`.
"""
