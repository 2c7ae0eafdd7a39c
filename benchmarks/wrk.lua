-- What wrk asks: GET of its URL, or one job for each id of a file, in turns.
--   wrk ... URL -- [create|update|delete IDS]

local ids, at, job = {}, 0, ""
local bodies = {
  create = '{"id": "%s", "name": "made", "disk_format": "raw", "container_format": "bare", '
    .. '"min_disk": 1, "tags": ["bench"], "os_distro": "debian", "os_version": "12"}',
  update = '[{"op": "replace", "path": "/name", "value": "%s"}, '
    .. '{"op": "add", "path": "/os_version", "value": "13"}]',
}

local types = {
  create = "application/json",
  update = "application/openstack-images-v2.1-json-patch",
}

function init(args)
  job = args[1] or ""
  -- Beside those of the command line, which headers of a single request would replace.
  wrk.headers["Content-Type"] = types[job]
  if args[2] and args[2] ~= "" then
    for line in io.lines(args[2]) do ids[#ids + 1] = line end
  end
end

function request()
  if job == "" then return wrk.format("GET") end
  at = at + 1
  if job == "update" then at = (at - 1) % #ids + 1 end
  local id = ids[at] or "none-is-left"
  if job == "create" then
    return wrk.format("POST", "/v2/images", nil, bodies.create:format(id))
  elseif job == "update" then
    return wrk.format("PATCH", "/v2/images/" .. id, nil, bodies.update:format("name-" .. at))
  end
  return wrk.format("DELETE", "/v2/images/" .. id)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'figures: {"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "bad": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status + errors.connect + errors.timeout + errors.write))
end
