"""Serial consoles over websockets: ``proxy`` lets clients in, ``line`` is the guest's terminal."""
