-- Appends messages to channels' logs, each once. Before this text stand the numbers most_entries, most_bytes, burst (how
-- many times as much a log may hold of what is young), and young, max_age and keep (all in ms).
--
-- KEYS  for each item: log, seen, both of one channel and so of one slot; what is
--       behind them is not touched
-- ARGV  1 the term's floor, and for each item:
--       the message in the binary form of package push
--       "", or: "ASK PLACED ABOVE AFTER", where ASK is 1 to append nothing that is
--       not known here and answer "ask"; PLACED is the offset that the inbox has the
--       message at, or 0: append nothing then; the offset must be above ABOVE; AFTER
--       is a message that must be known here, or empty: else the item fails
--
-- Answer: for each item what, offset, prev, one behind the other; what is NEW,
-- REPEAT or ASK below, or why the item failed. An offset that there is not is 0.
--
-- An offset is ms * 2048 + seq of the stream's id: a whole number below 2^53, which
-- a Lua number holds exactly. It is kept as the id, because to turn a number into
-- text costs more than most of the rest. A redis.call costs about what it does
-- to be called, so there are three to a message, and what bounds a log runs now
-- and then only. Whoever calls reads the routes with plain commands behind this
-- one, for a list that passes through a script costs several times as much.

local call, match, format = redis.call, string.match, string.format
local floor = tonumber(ARGV[1])
local slack = math.floor(max_age / 16)
local pause = math.floor(young / 64) -- so soon nothing more has ceased to be young
local most_rounds = 64 -- of 16 entries each that go at once: about 3 ms; the rest goes later
local ASK, NEW, REPEAT = 0, 1, 2

-- Takes an id apart. Those of one moment are mostly the same text, in whatever
-- channel, and then the last answer holds.
local last, last_ms, last_seq
local function parts(id)
  if id ~= last then
    local ms, seq = match(id, '^(%d+)%-(%d+)$')
    last, last_ms, last_seq = id, tonumber(ms), tonumber(seq)
  end
  return last_ms, last_seq
end

-- The fields of an entry come in the order they were written in: p m.
local function message_id(m)
  local high, low = string.byte(m, 2, 3)
  if not low then return '' end -- no message of ours
  return string.sub(m, 4, 3 + high * 256 + low)
end
local function size_of(m) return #m + 64 end

local function over(count, bytes, times) return count > times * most_entries or bytes > times * most_bytes end

-- To how much a log is brought that holds n and may hold most: a little less, so
-- that it is not soon again.
local function less(n, most)
  if n > most then return most - math.floor(most / 16) end
  return most
end

-- Brings a log within its bounds, of which its newest entry is id. It returns how
-- many entries and bytes it holds then. What is young may be on its way into the
-- inbox: until it is there, nobody finds it but here.
local function tend(log, seen, id, ms, count, bytes)
  local entries, size = less(count, most_entries), less(bytes, most_bytes)
  local burst_entries, burst_size = less(count, burst * most_entries), less(bytes, burst * most_bytes)
  local oldest, youth = ms - max_age, ms - young

  -- The log expires before its state does, and Redis may evict either.
  if call('XLEN', log) ~= count then
    call('DEL', seen)
    count, bytes = 0, 0
    local from, page = '-', nil
    repeat
      page = call('XRANGE', log, from, '+', 'COUNT', '64')
      for _, e in ipairs(page) do
        count, bytes = count + 1, bytes + size_of(e[2][4] or '')
        call('HSET', seen, message_id(e[2][4] or ''), e[1])
        from = '(' .. e[1]
      end
    until #page < 64
  end

  local first, dropped, done, rounds = '-', false, false, 0
  repeat
    rounds = rounds + 1
    local gone, ids = {}, {}
    for _, e in ipairs(call('XRANGE', log, first, '+', 'COUNT', '16')) do
      first = e[1]
      local at = tonumber(match(first, '^%d+'))
      done = first == id or rounds > most_rounds or (count <= entries and bytes <= size and at >= oldest)
        or (at > youth and count <= burst_entries and bytes <= burst_size)
      if done then break end
      count, bytes = count - 1, bytes - size_of(e[2][4] or '')
      gone[#gone + 1], ids[#ids + 1] = first, message_id(e[2][4] or '')
    end
    if #gone > 0 then
      dropped = true
      local stale = {} -- a message may have got another place since
      for n, place in ipairs(call('HMGET', seen, unpack(ids))) do
        if place == gone[n] then stale[#stale + 1] = ids[n] end
      end
      if #stale > 0 then call('HDEL', seen, unpack(stale)) end
    end
    if not done then first = '(' .. first end
  until done
  if dropped then call('XTRIM', log, 'MINID', first) end
  -- It lives for a sixteenth longer than it needs, because this is not done at
  -- each append.
  call('PEXPIRE', log, max_age + slack)
  return count, bytes
end

local function append(log, seen, message, special)
  local name = message_id(message)
  local above, ask, placed, after = floor, '0', 0, ''
  if special ~= '' then
    local p, a
    ask, p, a, after = match(special, '^(%d) (%d+) (%d+) (.*)$')
    placed, above = tonumber(p), math.max(floor, tonumber(a))
  end
  local found
  if after == '' then
    found = call('HMGET', seen, '', name)
  else
    found = call('HMGET', seen, '', name, after)
  end
  local state, known = found[1], found[2]
  if known then
    local ms, seq = parts(known)
    local offset = ms * 2048 + seq
    if offset > above then
      local e = call('XRANGE', log, known, known)[1]
      if e then
        local before = 0
        ms, seq = parts(e[2][2])
        if ms and ms * 2048 + seq > floor then before = ms * 2048 + seq end
        return REPEAT, offset, before
      end
    end
  end
  if placed > 0 then return REPEAT, placed, 0 end
  if ask == '1' then return ASK, 0, 0 end
  if after ~= '' and not found[3] then error('the message before it was not appended', 0) end

  -- The state of the log is its newest id, how many entries and bytes it holds,
  -- and when it was tended. It outlives the log; without it the log tells.
  local lms, lseq, count, bytes, tended
  if state then
    lms, lseq, count, bytes, tended = match(state, '^(%d+)%-(%d+) (%d+) (%d+) (%d+)$')
  else
    local e = call('XREVRANGE', log, '+', '-', 'COUNT', '1')[1]
    lms, lseq, count, bytes, tended = '0', '0', 0, 0, 0
    if e then lms, lseq = match(e[1], '^(%d+)%-(%d+)$') end
  end
  local newest = lms * 2048 + lseq
  local prev = '0'
  if newest > floor then prev = lms .. '-' .. lseq end

  local id = call('XADD', log, '*', 'p', prev, 'm', message)
  local ms, seq = parts(id)
  local offset, least = ms * 2048 + seq, math.max(above, newest)
  if offset <= least or seq > 2047 then
    -- The clock is behind, or stood still for 2,048 messages: then the offset is
    -- the next that is free.
    call('XDEL', log, id)
    offset = math.max(least + 1, ms * 2048 + math.min(seq, 2048))
    seq = offset % 2048
    ms = (offset - seq) / 2048
    id = format('%.0f-%.0f', ms, seq)
    call('XADD', log, id, 'p', prev, 'm', message)
  end
  count, bytes = count + 1, bytes + size_of(message)
  local since = ms - tended
  local tend_now = since > slack or over(count, bytes, 1) and (since >= pause or over(count, bytes, burst))
  if tend_now then
    count, bytes = tend(log, seen, id, ms, count, bytes)
    tended = ms
  end
  call('HSET', seen, '', id .. ' ' .. count .. ' ' .. bytes .. ' ' .. tended, name, id)
  if tend_now then call('PEXPIRE', seen, keep + slack) end
  if newest <= floor then newest = 0 end
  return NEW, offset, newest
end

if #ARGV == 3 then return {append(KEYS[1], KEYS[2], ARGV[2], ARGV[3])} end
local answers, at = {}, 0
for n = 1, (#ARGV - 1) / 2 do
  local ok, what, offset, prev = pcall(append, KEYS[2 * n - 1], KEYS[2 * n], ARGV[2 * n], ARGV[2 * n + 1])
  if not ok then
    if type(what) == 'table' then what = what.err end
    what, offset, prev = tostring(what), 0, 0
  end
  answers[at + 1], answers[at + 2], answers[at + 3] = what, offset, prev
  at = at + 3
end
return answers
