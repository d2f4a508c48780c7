"""Webhooks: what is sent to addresses that somebody configured, signed and to no forbidden place."""
