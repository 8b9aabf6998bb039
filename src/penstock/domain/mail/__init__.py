"""Mail: the words of every mail, and the outbox that keeps each until it is sent."""
