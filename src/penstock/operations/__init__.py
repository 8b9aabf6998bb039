"""What runs the service: first start, doctor, health, metrics, logs, maintenance, and the sending of mail."""
