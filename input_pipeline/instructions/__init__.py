"""Tasks as instructions: chats of their own, and templates over others."""
