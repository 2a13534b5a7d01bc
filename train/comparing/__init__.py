"""Runs side by side: what their workdirs hold, statistics, a page."""
