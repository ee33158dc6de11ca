"""What starts the processes of workers: this machine itself, or a cluster."""
