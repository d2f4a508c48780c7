"""What stands out from its past: pure statistics over daily figures, with a stated rate of false alarms."""
