"""Tests of the simulator: a plain client over real sockets on 127.0.0.1."""
