-- Removes a node's routes, each if it is still the registration that is named.
--
-- KEYS  channels' routes
-- ARGV  1 the node  and for each key the registration

local node, removed = ARGV[1], 0
for i, routes in ipairs(KEYS) do
  if redis.call('HGET', routes, node) == ARGV[i + 1] then
    removed = removed + redis.call('HDEL', routes, node)
  end
end
return removed
