"""What people type: the `bdw-fed` command."""
