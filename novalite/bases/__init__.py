"""Base images of one host that guests boot from before they are there.

::

    compute (lazy)  ── writes ──>  KEY.order, KEY.lazy   <── opens ──  the process
        │                                                                │
        keeper: starts the process                    nbd: serves KEY.lazy on a unix socket
                                                      filling: fetches the rest, verifies it
    QEMU  ── reads a guest's backing file by NBD ──>  copying: what isn't there is fetched

The process (``python -m novalite.bases``, or ``novalite-bases``) is one a cache
directory and outlives novalite-compute. All it needs to go on after kill -9 is on
disk: what a base is (``orders``), and which of its blocks are there (``journal``).
When a base is complete and its digest right, it is an entry of the image cache
(``novalite.virt.disks``) like any that was downloaded at once. docs/adr/0012 says why.
"""
