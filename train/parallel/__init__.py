"""Devices and hosts: the mesh and its rules, processes, compilation."""
