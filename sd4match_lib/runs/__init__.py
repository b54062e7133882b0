"""What a run leaves: its record, its folder, the machine, the group of processes."""
