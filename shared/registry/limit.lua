-- Judges one request against all limits of one subject by the generic cell rate
-- algorithm. A key holds when its subject will have spent nothing of the limit:
-- each request that passes moves that time on by one interval, and none may move
-- it further ahead than room. All limits let the request pass, or none counts it.
--
-- KEYS  one for each limit, in one slot
-- ARGV  for each limit: the interval, and room (interval x burst), in whole µs
--
-- Answer: {"1" if it may pass, else "0"}, and for each limit how many requests
-- may follow at once, and two times in µs: until it is as if none had come, and
-- until the next may pass. Times in µs are whole numbers below 2^53.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function whole(x) return string.format('%.0f', x) end

local limits, passes = {}, true
for i, key in ipairs(KEYS) do
  local interval, room = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  -- What lies further ahead was written by a clock that ran ahead, or for a
  -- limit that has been made smaller.
  local due = math.min(tonumber(redis.call('GET', key) or '0'), now + room)
  due = math.max(due, now)
  limits[i] = {key, interval, room, due}
  if due + interval - room > now then passes = false end
end

local answer = {passes and '1' or '0'}
for i, limit in ipairs(limits) do
  local key, interval, room, due = limit[1], limit[2], limit[3], limit[4]
  if passes then
    due = due + interval
    redis.call('SET', key, whole(due), 'PX', whole(math.ceil((due - now) / 1000) + 1))
  end
  answer[3 * i - 1] = whole(math.floor((room - (due - now)) / interval))
  answer[3 * i] = whole(due - now)
  answer[3 * i + 1] = whole(math.max(0, due + interval - room - now))
end
return answer
