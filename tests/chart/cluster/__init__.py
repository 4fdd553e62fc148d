"""Runs rendered manifests on this machine: each container is a process, each pod has an address of loopback.

The following works as Kubernetes documents it: init containers run first, the kubelet's probes, endpoints only of ready
pods, rolling updates within surge and unavailability, preStop, SIGTERM and the grace period. A container's root file
system is read-only (Landlock), its Secrets and ConfigMaps are files, and NetworkPolicy decides on each connection
through a Service.

The following is missing: images (a command runs in the environment that its image is built from), resource limits (only
the memory is measured), DNS (names of Services in settings are replaced by their addresses), and NetworkPolicy for
connections that go to a pod's address directly.
"""
