"""What claims and reports cost where many workers make them at once: real processes, and past them a virtual clock."""
