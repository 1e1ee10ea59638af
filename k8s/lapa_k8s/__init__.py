"""The control plane: what runs on a cluster, as data; its manifests; and the client that sends them."""
