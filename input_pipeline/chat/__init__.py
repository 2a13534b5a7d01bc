"""Chats: messages, the templates that write them as text, and their ids."""
