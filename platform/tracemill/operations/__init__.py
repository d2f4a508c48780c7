"""What keeps a warehouse well: alerts, retention, copies, and forgetting a person."""
