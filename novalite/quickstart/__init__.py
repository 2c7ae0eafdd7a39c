"""Make a cloud that runs at once: a hypervisor and an image to boot."""
