"""Object storage: the port of a store of images, its implementations, and their addresses."""
