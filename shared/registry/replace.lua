-- Replaces the marker of the term if it is still the one that was read.
--
-- KEYS  push:term
-- ARGV  1 the marker that was read, empty for none  2 the new one

local held = redis.call('GET', KEYS[1]) or ''
if held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
