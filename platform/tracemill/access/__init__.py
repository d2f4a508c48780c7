"""Who may use the server, and how much: virtual keys and budgets, both folds over the log."""
