"""Command-line arguments in; calls of the steps and tables out. One module per subject."""
