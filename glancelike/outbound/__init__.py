"""Open URLs that callers give: judged at each hop, resumed, never waited for too long.

The one way out of the server for such URLs. An Opener judges a URL by its
UrlRules, connects to just the addresses that were judged (so that a name
can't resolve to something else meanwhile), and does the same for each
redirect. No cookies, no proxies of the environment; the headers of a caller
stay with the origin they were meant for. Terms: RFC 9110.
"""

from glancelike.outbound.answers import Facts as Facts
from glancelike.outbound.opener import Fetch as Fetch
from glancelike.outbound.opener import Opener as Opener
from glancelike.outbound.opener import open_url as open_url
from glancelike.urlrules import FetchLimits as FetchLimits
from glancelike.urlrules import UrlRules as UrlRules
