"""Real runs, killed hundreds of times while answers arrive and are committed, and what must hold afterwards."""
