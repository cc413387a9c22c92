"""The outside: HTTP, WebSocket and Server-Sent Events over the core."""
