"""Tests of what models answer, in pytest: samples, thresholds, snapshots, replay."""
