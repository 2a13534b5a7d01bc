"""Attention kernels, which never hold a weight for each query and key."""
