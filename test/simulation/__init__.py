"""Tests of L{dst.simulation}: the world that judges must be judged itself."""
