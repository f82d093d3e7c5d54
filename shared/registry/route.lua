-- Writes a node's routes, each unless a later registration of the same node
-- stands there: a write that was held up on the way replaces nothing newer.
--
-- KEYS  channels' routes
-- ARGV  1 the node  2 ms that routes are kept  and for each key the registration

local node, keep = ARGV[1], ARGV[2]
for i, routes in ipairs(KEYS) do
  local registration = ARGV[i + 2]
  local stands = redis.call('HGET', routes, node)
  if not stands or tonumber(stands) <= tonumber(registration) then
    redis.call('HSET', routes, node, registration)
    redis.call('PEXPIRE', routes, keep)
  end
end
return #KEYS
