"""Runs rendered manifests on this machine: each container as a process, each pod on an address of loopback.

What a cluster does is done as Kubernetes documents it: init containers first, probes as the kubelet polls
them, endpoints of ready pods alone, rolling updates within surge and unavailability, preStop, SIGTERM and
the grace period. A container's root file system is read-only (Landlock), its Secrets and ConfigMaps are files,
NetworkPolicy decides each connection through a Service. What is not there: images (a command runs in the
environment that its image is built from), resource limits beyond a look at the memory, DNS (names of Services
in settings are replaced by their addresses), and connections that go to a pod's address directly.
"""
