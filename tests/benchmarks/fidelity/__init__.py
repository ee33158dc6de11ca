"""Whether short trainings on few images rank configurations as long ones do, and what they cost beside them.

``make bench-fidelity`` (`__main__`) trains the same configurations at several fidelities (`trainings`), in processes of
one thread (`workers`, `training`), and compares how they rank (`ranking`). The recorded tables tell the same of epochs
alone.
"""
