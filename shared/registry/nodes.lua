-- Returns Redis' clock in ms and then member, end, member, end … of every
-- lease that has not ended.
--
-- KEYS  push:nodes

local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
return {now, redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES')}
