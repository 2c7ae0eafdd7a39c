"""Open URLs that callers give: judged at each hop, resumed, never waited for too long.

The one way out of the server for such URLs. An Opener judges a URL by its
UrlRules, connects to just the addresses that were judged (so that a name
can't resolve to something else meanwhile), and does the same for each
redirect. No cookies, no proxies of the environment; the headers of a caller
stay with the origin they were meant for. Terms: RFC 9110. What opens is in
``opener``, apart from its ``options``, since it brings urllib3.
"""
