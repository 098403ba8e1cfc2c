"""`crawl2chat up`: a Prefect server, a worker and what they need, started and stopped as one service."""
