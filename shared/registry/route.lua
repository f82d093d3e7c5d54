-- Writes a node's route for a channel, unless a later registration of the same
-- node stands there: a write that was held up on the way replaces nothing newer.
--
-- KEYS  a channel's routes
-- ARGV  1 the node  2 the registration  3 ms that routes are kept

local stands = redis.call('HGET', KEYS[1], ARGV[1])
if stands and tonumber(stands) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
