"""What domains stand on: events, commands, the bus, the journal and supervised tasks."""
