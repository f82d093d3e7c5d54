-- Appends one message to one channel's log, once, and returns the channel's
-- routes. All keys are of one channel and so of one slot.
--
-- KEYS  log, seen, last, routes
-- ARGV  1 message id    2 message    3 the term's floor
--       4 "1": append nothing if the message is not known here, answer "ask"
--       5 the offset that the inbox has the message at, or 0: append nothing then
--       6 most entries  7 most bytes  8 most ms of age of the log
--       9 ms that last is kept  10 the offset must be above this
--
-- Answer: {what, offset, prev, routes}; what is "new", "repeat" or "ask".
-- Offsets are whole numbers below 2^53, which a Lua number holds exactly; they
-- are written with %.0f, for any other way may round them.

local log, seen, last_key, routes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local floor = tonumber(ARGV[3])
local above = math.max(floor, tonumber(ARGV[10]))
local placed = tonumber(ARGV[5])

local function whole(x) return string.format('%.0f', x) end

local function id_of(offset)
  local seq = offset % 2048
  return whole((offset - seq) / 2048) .. '-' .. whole(seq)
end

local function offset_of(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms) * 2048 + tonumber(seq)
end

-- The fields of an entry come in the order they were written in: p n b m.
local function prev_of(e) return tonumber(e[2][2]) end
local function count_before(e) return tonumber(e[2][4]) end
local function bytes_before(e) return tonumber(e[2][6]) end
local function size_of(payload) return string.len(payload) + 64 end

local function answer(what, offset, prev)
  if prev <= floor then prev = 0 end
  return {what, whole(offset), whole(prev), redis.call('HGETALL', routes)}
end

local known = redis.call('ZSCORE', seen, ARGV[1])
if known then
  known = tonumber(known)
  if known > above then
    local id = id_of(known)
    local e = redis.call('XRANGE', log, id, id)[1]
    if e then return answer('repeat', known, prev_of(e)) end
  end
end
if placed > 0 then return answer('repeat', placed, 0) end
if ARGV[4] == '1' then return {'ask', '0', '0', {}} end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local last, count, bytes = 0, 0, 0
local kept = redis.call('GET', last_key)
if kept then
  local o, n, b = string.match(kept, '^(%d+) (%d+) (%d+)$')
  last, count, bytes = tonumber(o), tonumber(n), tonumber(b)
else
  local e = redis.call('XREVRANGE', log, '+', '-', 'COUNT', '1')[1]
  if e then
    last, count = offset_of(e[1]), count_before(e) + 1
    bytes = bytes_before(e) + size_of(e[2][8])
  end
end

local offset = math.max(now * 2048, above + 1, last + 1)
local prev = 0
if last > floor then prev = last end
local id = id_of(offset)
redis.call('XADD', log, id, 'p', whole(prev), 'n', whole(count), 'b', whole(bytes), 'm', ARGV[2])
count = count + 1
bytes = bytes + size_of(ARGV[2])
redis.call('ZADD', seen, whole(offset), ARGV[1])
redis.call('SET', last_key, whole(offset) .. ' ' .. whole(count) .. ' ' .. whole(bytes), 'PX', ARGV[9])

local most_entries, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local oldest = (now - tonumber(ARGV[8])) * 2048
local function stays(e)
  return e[1] == id or (count - count_before(e) <= most_entries
    and bytes - bytes_before(e) <= most_bytes and offset_of(e[1]) >= oldest)
end

-- Most appends that drop anything drop one entry, so two are looked at first.
local page = redis.call('XRANGE', log, '-', '+', 'COUNT', '2')
repeat
  local first
  for _, e in ipairs(page) do
    first = e
    if stays(e) then break end
  end
  if first ~= page[1] then
    redis.call('XTRIM', log, 'MINID', first[1])
    redis.call('ZREMRANGEBYSCORE', seen, '-inf', '(' .. whole(offset_of(first[1])))
  end
  local done = stays(first)
  if not done then page = redis.call('XRANGE', log, first[1], '+', 'COUNT', '16') end
until done
redis.call('PEXPIRE', log, ARGV[8])
redis.call('PEXPIRE', seen, ARGV[8])

return answer('new', offset, prev)
