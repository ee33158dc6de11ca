"""What comes after the search: its best configurations confirmed with other seeds, the winner trained for long."""
