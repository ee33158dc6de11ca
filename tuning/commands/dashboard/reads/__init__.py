"""What the dashboard's page asks for again and again, answered from what is kept instead of read anew each time."""
