"""What follows what: configs, Prefect flows and the command line. No arithmetic, no file formats."""
