"""What a request costs: Penstock beside nginx on one core, measured by the operating system's clocks."""
