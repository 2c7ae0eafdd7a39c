"""Virt drivers: the hypervisors novalite can boot on."""
