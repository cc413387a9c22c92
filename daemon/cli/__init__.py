"""The agentcmd command: thin over the client, one file for what belongs together."""
