package collectfn

import "testing"

func TestNodes(t *testing.T) {
	r := newRig(t)
	wantAnswer(t, "the nodes", r.order("GET", "/v1/nodes", ""), 200,
		`{"nodes":[{"node":"10.0.0.1:8811~A","address":"10.0.0.1:8811","draining":false,"lease_left":"12s","answered":false}]}`)
	r.nodes.away = true
	wantAnswer(t, "Dispatch is away", r.order("GET", "/v1/nodes", ""), 503, `"unavailable"`)
	r.collect.cfg.Questions = nil
	wantAnswer(t, "nobody can ask", r.order("GET", "/v1/nodes", ""), 503, `DISPATCH_RPC_URL`)
}
