"""Several workers of one run: the start of each, and Ray, which starts them on many machines."""
