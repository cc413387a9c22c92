"""agentcmd: runs agents, steps, terminals and git operations as supervised, streamed tasks."""

__version__ = "0.1.0"
