"""The `sd4match` command, a file a command."""
