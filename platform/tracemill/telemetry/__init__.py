"""Telemetry: what other programs tell of their calls comes in, what ours did goes out, in the words of
OpenTelemetry and Prometheus. Whatever tool recorded a call, the log gets the same two events of it.
"""
