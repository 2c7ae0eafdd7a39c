"""novalite: a lean compute that boots images on KVM."""
