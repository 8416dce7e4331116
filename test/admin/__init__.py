"""Tests of the admin side."""
