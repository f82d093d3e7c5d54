package cli

import (
	"context"
	"fmt"
	"sync"
	"time"

	"pushcluster/pushctl/api"
	"pushcluster/shared/push"
)

type nodesCmd struct{}

// Run lists the push nodes that are alive.
func (*nodesCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	answer, err := client.Nodes(ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, n := range answer.Value.Nodes {
		if s.out.JSON {
			if err := s.out.Raw(n.Raw); err != nil {
				return err
			}
		}
		rows = append(rows, nodeRow(n.Value, s.now()))
	}
	if s.out.JSON {
		return nil
	}
	return s.out.Table("no node is alive", []string{"NODE", "STATE", "LEASE", "CONNECTIONS", "USERS", "CHANNELS", "UP", "VERSION"}, rows)
}

func nodeRow(n push.NodeInfo, now time.Time) []string {
	left, _ := time.ParseDuration(n.LeaseLeft)
	row := []string{string(n.Node), "no answer", left.Round(time.Second).String(), "", "", "", "", ""}
	if n.NodeStatus != nil {
		row = []string{row[0], "ready", row[2], fmt.Sprint(n.Connections), fmt.Sprint(n.Users), fmt.Sprint(n.Channels),
			max(0, now.Sub(n.StartedAt)).Round(time.Second).String(), n.Version}
	}
	if n.Draining {
		row[1] = "draining"
	}
	return row
}

type statusCmd struct{}

// Run asks every service that is known whether it is ready, and Dispatch, by
// Collect, which nodes there are. It fails if one is not, or if there is no
// node.
func (*statusCmd) Run(ctx context.Context, s *session) error {
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	if s.URL == "" {
		_, err := client.Sources(ctx) // which says what to do
		return err
	}
	checks := s.health(ctx, client)
	nodes, asked := s.nodesHealth(ctx, client)
	checks = append(checks, nodes...)
	failed := !asked
	var rows [][]string
	for _, h := range checks {
		failed = failed || !h.Ready
		if s.out.JSON {
			if err := s.out.Value(h); err != nil {
				return err
			}
			continue
		}
		state := "ready"
		if !h.Ready {
			state = "not ready"
		}
		took := ""
		if h.Took > 0 {
			took = h.Took.Round(time.Millisecond).String()
		}
		rows = append(rows, []string{h.Service, h.URL, state, took, h.Reason})
	}
	if !s.out.JSON {
		err = s.out.Table("", []string{"SERVICE", "AT", "STATE", "TOOK", "WHY"}, rows)
	}
	if err == nil && failed {
		return errTold
	}
	return err
}

// health asks every /readyz that is known, all at once.
func (s *session) health(ctx context.Context, client *api.Client) []api.Health {
	type target struct{ name, url string }
	targets := []target{{"collect", s.URL}}
	if s.Auth != s.URL {
		targets = append(targets, target{"auth", s.Auth})
	}
	if s.facts != nil {
		targets = append(targets, target{"dispatch", s.facts.Dispatch})
	}
	checks := make([]api.Health, len(targets))
	var asking sync.WaitGroup
	for i, t := range targets {
		asking.Go(func() { checks[i] = client.Ready(ctx, t.name, t.url) })
	}
	asking.Wait()
	return checks
}

// nodesHealth asks which nodes there are; ok is false if that is not known.
func (s *session) nodesHealth(ctx context.Context, client *api.Client) (nodes []api.Health, ok bool) {
	answer, err := client.Nodes(ctx)
	if err != nil {
		return []api.Health{{Service: "nodes", Reason: describe(err).Error}}, false
	}
	for _, n := range answer.Value.Nodes {
		h := api.Health{Service: "node", URL: string(n.Value.Node), Ready: n.Value.Answered && !n.Value.Draining}
		switch {
		case n.Value.Draining:
			h.Reason = "draining"
		case !n.Value.Answered:
			h.Reason = "no answer"
		}
		nodes = append(nodes, h)
	}
	if len(nodes) == 0 {
		return []api.Health{{Service: "nodes", Reason: "no node is alive: nobody can connect"}}, false
	}
	return nodes, true
}
