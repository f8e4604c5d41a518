"""What goes on around the engine while it fits: each leaf is one concern."""
