-- Renews a lease that is still there.
--
-- KEYS  push:node:<id>
-- ARGV  1 its value  2 ms it lasts

if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
