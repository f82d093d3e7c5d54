-- Lists a node in push:nodes until ARGV[3] ms from now, and takes out what
-- ended more than a minute ago.
--
-- KEYS  push:nodes
-- ARGV  1 the member  2 the member it replaces  3 ms the lease lasts
--       4 "1": only where one of the two is listed and has not ended

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function ends(member)
  local s = redis.call('ZSCORE', KEYS[1], member)
  return s and tonumber(s) or 0
end

if ARGV[4] == '1' and ends(ARGV[1]) <= now and ends(ARGV[2]) <= now then return 0 end
redis.call('ZREM', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[3])), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - 60000))
return 1
