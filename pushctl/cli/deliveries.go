package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pushcluster/pushctl/api"
	"pushcluster/pushctl/show"
	"pushcluster/shared/push"
)

type deliveriesCmd struct {
	Source  string  `arg:"" help:"The source's name."`
	ID      string  `arg:"" optional:"" name:"id" help:"The delivery's id, which is its sender's: tell all that is kept of it."`
	Outcome *string `placeholder:"OUTCOME" enum:"accepted,no_rule_matched,nobody,parked,refused,challenge" help:"Only those: accepted, no_rule_matched, nobody, parked, refused or challenge."`
	Before  string  `placeholder:"TIME" help:"Only those that came before: RFC 3339, or a duration ago, as 2h."`
	Limit   int     `short:"n" default:"50" help:"At most so many; 0: all that are kept."`
}

// chosen returns the choice of a flag, "" if there was none. Were that a choice of
// its own, it would be offered with the others.
func chosen(choice *string) string {
	if choice == nil {
		return ""
	}
	return *choice
}

// Run tells what came of a source, the newest first, or all of one delivery.
func (c *deliveriesCmd) Run(ctx context.Context, s *session) error {
	if c.Limit < 0 {
		return usage("--limit must be 0 or more")
	}
	before, err := ago("--before", c.Before, s.now())
	if err != nil {
		return err
	}
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	if c.ID != "" {
		return s.delivery(client.Delivery(ctx, c.Source, c.ID))
	}
	var rows [][]string
	for left := c.Limit; ; {
		page, err := client.Deliveries(ctx, api.DeliveriesQuery{Source: c.Source, Outcome: chosen(c.Outcome), Before: before, Limit: pageSize(left, c.Limit)})
		if err != nil {
			return err
		}
		for _, d := range page.Value.Deliveries {
			if s.out.JSON {
				if err := s.out.Raw(d.Raw); err != nil {
					return err
				}
			}
			rows = append(rows, deliveryRow(d.Value))
		}
		left -= len(page.Value.Deliveries)
		if before = page.Value.Next; before == "" || (c.Limit > 0 && left <= 0) {
			break
		}
	}
	if s.out.JSON {
		return nil
	}
	return s.out.Table("nothing came of it, or nothing is kept", []string{"DELIVERY", "RECEIVED", "OUTCOME", "TIMES", "MESSAGES", "WHY"}, rows)
}

// pageSize returns how many to ask for, of which left are wanted.
func pageSize(left, limit int) int {
	const most = 200 // of one page
	if limit == 0 {
		return most
	}
	return min(left, most)
}

func deliveryRow(d api.Delivery) []string {
	return []string{d.ID, show.Time(d.ReceivedAt), d.Outcome, fmt.Sprint(max(1, d.Receipts)), fmt.Sprint(len(d.Messages)), whyOf(d.Failed, d.Refusal)}
}

// whyOf tells why something was not done, as far as it is known.
func whyOf(failed []api.RuleResult, refused *push.Problem) string {
	if refused != nil {
		return strings.TrimSuffix(string(refused.Code)+": "+refused.Detail, ": ")
	}
	if len(failed) == 0 {
		return ""
	}
	f := failed[0]
	why := strings.TrimPrefix(f.Field+": "+f.Reason, ": ")
	if f.Rule != "" {
		why = "rule " + f.Rule + ", " + why
	}
	if len(failed) > 1 {
		why += fmt.Sprintf(", and %d more", len(failed)-1)
	}
	return why
}

// delivery tells all that is kept of one delivery.
func (s *session) delivery(answer api.Answer[api.Delivery], err error) error {
	if err != nil || s.out.JSON {
		if err == nil {
			err = s.out.Raw(answer.Raw)
		}
		return err
	}
	d := answer.Value
	facts := [][2]string{
		{"delivery", d.ID}, {"outcome", d.Outcome}, {"why", whyOf(nil, d.Refusal)}, {"received", show.Time(d.ReceivedAt)},
		{"from", d.Remote}, {"times", fmt.Sprint(max(1, d.Receipts))}, {"replays", fmt.Sprint(d.Replays)}, {"kept until", show.Time(d.ExpiresAt)},
	}
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		facts = append(facts, [2]string{"header " + name, fmt.Sprint(d.Headers[name])})
	}
	facts = append(facts, [2]string{"body", bodyText(d)})
	if err := s.out.Facts(facts); err != nil || len(d.Rules) == 0 {
		return err
	}
	var rows [][]string
	for _, r := range d.Rules {
		why := string(r.Message)
		if r.Reason != "" {
			why = strings.TrimPrefix(r.Field+": "+r.Reason, ": ")
		}
		rows = append(rows, []string{r.Rule, strings.ReplaceAll(r.Result, "_", " "), why})
	}
	return errors.Join(s.out.Linef(""), s.out.Table("", []string{"RULE", "RESULT", "MESSAGE, OR WHY NOT"}, rows))
}

func bodyText(d api.Delivery) string {
	switch {
	case len(d.Body) > 0:
		return string(d.Body)
	case d.BodyText != "":
		return d.BodyText
	case d.BodyBase64 != "":
		return "base64 " + d.BodyBase64
	case d.Size > 0:
		return fmt.Sprintf("%d bytes, not kept", d.Size)
	}
	return ""
}

// ago returns the time that text says, as the API takes it: RFC 3339, or a
// duration before now.
func ago(flag, text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d).UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano), nil
	}
	if _, err := time.Parse(time.RFC3339, text); err != nil {
		return "", usage("%s %q is neither a time like 2030-01-31T09:30:00Z nor a duration ago like 2h", flag, text)
	}
	return text, nil
}

type replayCmd struct {
	Source  string   `arg:"" help:"The source's name."`
	ID      []string `arg:"" optional:"" name:"id" help:"Ids of deliveries."`
	From    string   `placeholder:"TIME" help:"In place of ids: those that came since, RFC 3339, or a duration ago, as 2h."`
	To      string   `placeholder:"TIME" help:"And before this time."`
	Outcome *string  `placeholder:"OUTCOME" enum:"accepted,no_rule_matched,nobody,parked" help:"Only those: accepted, no_rule_matched, nobody or parked."`
	Again   bool     `help:"Send what was sent before once more, under new ids."`
}

// Help is what replay --help tells besides.
func (*replayCmd) Help() string {
	return `What was sent before is not sent again, unless one asks for that: a replay of too much does no harm.

Examples:
  pushctl replay github 72d3162e-cc78-11e3-81ab-4c9367dc0958
  pushctl replay github --from 24h --outcome parked`
}

// Run has deliveries go through the rules of now. It fails if one was skipped,
// or is parked after it.
func (c *replayCmd) Run(ctx context.Context, s *session) error {
	switch {
	case len(c.ID) > 0 && c.From+c.To+chosen(c.Outcome) != "":
		return usage("name deliveries by their ids, or by --from, --to and --outcome")
	case len(c.ID) == 0 && c.From == "":
		return usage("name the deliveries, or say with --from since when")
	}
	r := api.Range{Outcome: chosen(c.Outcome), Again: c.Again}
	var err error
	if r.From, r.To, err = span(c.From, c.To, s.now()); err != nil {
		return err
	}
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	run := &replayRun{s: s, progress: show.NewProgress(s.stderr, "deliveries", 0, nil)}
	defer run.progress.Clear()
	for _, id := range c.ID {
		answer, err := client.ReplayDelivery(ctx, c.Source, id, c.Again)
		if err == nil {
			err = run.take(api.Item[api.Replayed]{Value: answer.Value, Raw: answer.Raw})
		}
		if err != nil {
			return err
		}
	}
	if len(c.ID) == 0 {
		if err := s.pages(r, func(r api.Range) (api.Summary, error) { return client.Replay(ctx, c.Source, r, run.take) }); err != nil {
			return err
		}
	}
	run.progress.Clear()
	if !s.out.JSON {
		if err := s.out.Linef("%d replayed, %d of them wait or were skipped", run.done, run.waiting); err != nil {
			return err
		}
	}
	if run.waiting > 0 {
		return errTold
	}
	return nil
}

// span returns both ends of a range as the API takes them.
func span(from, to string, now time.Time) (string, string, error) {
	first, err := ago("--from", from, now)
	if err != nil {
		return "", "", err
	}
	last, err := ago("--to", to, now)
	return first, last, err
}

// pages gives an order about a range, and again for what was left over.
func (s *session) pages(r api.Range, order func(api.Range) (api.Summary, error)) error {
	for {
		sum, err := order(r)
		switch {
		case err != nil:
			return err
		case sum.Problem != nil:
			return sum.Problem
		case !sum.More || sum.Next == "":
			return nil
		}
		r.From, r.Next = "", sum.Next
	}
}

// A replayRun counts and tells what became of deliveries.
type replayRun struct {
	s             *session
	progress      *show.Progress
	done, waiting int
}

func (run *replayRun) take(item api.Item[api.Replayed]) error {
	r := item.Value
	run.done++
	if r.Outcome == "skipped" || r.Outcome == "parked" {
		run.waiting++
	}
	run.progress.Clear()
	defer run.progress.Set(0, run.done)
	if run.s.out.JSON {
		return run.s.out.Raw(item.Raw)
	}
	sent, repeats := 0, 0
	for _, m := range r.Messages {
		if m.Repeat {
			repeats++
		} else {
			sent++
		}
	}
	why := fmt.Sprintf("%d sent, %d sent before", sent, repeats)
	if reason := r.Reason + whyOf(r.Failed, nil); reason != "" {
		why = reason
	}
	return run.s.out.Title(r.Delivery, strings.ReplaceAll(r.Outcome, "_", " "), why)
}

type dryRunCmd struct {
	Source  string  `arg:"" help:"The source whose deliveries to try."`
	File    string  `arg:"" help:"The candidate rules (- for stdin): a list as under rules, one source, or a whole file of sources."`
	From    string  `default:"24h" placeholder:"TIME" help:"Deliveries that came since, RFC 3339, or a duration ago; default ${default}."`
	To      string  `placeholder:"TIME" help:"And before this time."`
	Outcome *string `placeholder:"OUTCOME" enum:"accepted,no_rule_matched,nobody,parked" help:"Only those: accepted, no_rule_matched, nobody or parked."`
	All     bool    `help:"Tell those too for which nothing changes."`
}

// Run tells what candidate rules would make of kept deliveries. It fails if one
// of them fails on a delivery.
func (c *dryRunCmd) Run(ctx context.Context, s *session) error {
	text, err := s.readInput(c.File)
	if err != nil {
		return err
	}
	r := api.Range{Outcome: chosen(c.Outcome)}
	if r.Rules, err = rulesOf(text, c.Source); err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	if r.From, r.To, err = span(c.From, c.To, s.now()); err != nil {
		return err
	}
	client, err := s.api(ctx)
	if err != nil {
		return err
	}
	progress := show.NewProgress(s.stderr, "deliveries", 0, nil)
	defer progress.Clear()
	counts, done, failed := make(map[string]int), 0, false
	err = s.pages(r, func(r api.Range) (api.Summary, error) {
		return client.DryRun(ctx, c.Source, r, func(item api.Item[api.DryRun]) error {
			done++
			counts[item.Value.Result]++
			failed = failed || len(item.Value.Candidate.Failed) > 0
			defer progress.Set(0, done)
			if s.out.JSON {
				return s.out.Raw(item.Raw)
			}
			if item.Value.Result == "same" && !c.All {
				return nil
			}
			progress.Clear()
			return s.dryRun(item.Value)
		})
	})
	progress.Clear()
	if err == nil && !s.out.JSON {
		err = s.out.Linef("%d deliveries: %d same, %d changed, %d added, %d removed, %d skipped", done,
			counts["same"], counts["changed"], counts["added"], counts["removed"], counts["skipped"])
	}
	if err == nil && failed {
		return errTold
	}
	return err
}

// dryRun tells of one delivery what would change.
func (s *session) dryRun(d api.DryRun) error {
	why := d.Reason
	if why == "" {
		why = fmt.Sprintf("now %s, then %s", strings.ReplaceAll(d.Now.Outcome, "_", " "), strings.ReplaceAll(d.Candidate.Outcome, "_", " "))
	}
	err := s.out.Title(d.Delivery, d.Result, why)
	for _, side := range []struct {
		sign string
		made api.WouldBe
	}{{"-", d.Now}, {"+", d.Candidate}} {
		for _, m := range side.made.Messages {
			event := ""
			if m.Event != "" {
				event = "event " + m.Event + ", "
			}
			err = errors.Join(err, s.out.Linef("  %s %s to %s, %sttl %s: %s", side.sign, m.ID, recipients(m.To), event, m.TTL, m.Data))
		}
		if side.made.Further > 0 {
			err = errors.Join(err, s.out.Linef("  %s and %d more", side.sign, side.made.Further))
		}
		if reason := whyOf(side.made.Failed, nil); reason != "" {
			err = errors.Join(err, s.out.Linef("  %s %s", side.sign, reason))
		}
	}
	return err
}
