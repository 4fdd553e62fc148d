-- wrk's requests: POST /v1/messages, each of the next customer, formatted once before the run.
-- TOKENS names a file of one token a line; PREFER is the header's value, empty for none.

local formatted = {}
local turn = 0

function init(_)
  local prefer = os.getenv("PREFER") or ""
  for token in io.lines(os.getenv("TOKENS")) do
    local headers = {
      ["Authorization"] = "Bearer " .. token,
      ["Content-Type"] = "application/json",
    }
    if prefer ~= "" then headers["Prefer"] = prefer end
    formatted[#formatted + 1] = wrk.format("POST", "/v1/messages", headers, '{"text":"我的订单20260001到哪了"}')
  end
end

function request()
  turn = turn % #formatted + 1
  return formatted[turn]
end

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

expected = 0
unexpected = 0

function response(status, _, _)
  if status == tonumber(os.getenv("STATUS")) then
    expected = expected + 1
  else
    unexpected = unexpected + 1
  end
end

function done(summary, latency, _)
  local good, bad = 0, 0
  for _, thread in ipairs(threads) do
    good = good + thread:get("expected")
    bad = bad + thread:get("unexpected")
  end
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    'RESULT {"answers": %d, "others": %d, "errors": %d, "seconds": %.3f, "p50_ms": %.2f, "p95_ms": %.2f, "p99_ms": %.2f}\n',
    good, bad, errors, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
