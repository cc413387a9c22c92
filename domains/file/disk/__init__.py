"""What waits for the disk: everything in here is called in a thread, and nothing else blocks."""
