-- Removes a route if it is still the registration that is named.
--
-- KEYS  a channel's routes
-- ARGV  1 the node  2 the registration

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
