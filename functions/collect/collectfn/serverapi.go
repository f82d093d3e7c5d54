package collectfn

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"pushcluster/functions/collect/centrifugo"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/telemetry"
)

// The server API of Centrifugo, for the libraries that were written for it: see
// package centrifugo for its form. What is published becomes a message like all
// others, with the same promise.

// maxCommands is how many commands one request may hold.
const maxCommands = MaxBatch

// apiErrorMode is the header by which a caller asks for errors as statuses.
const apiErrorMode = "X-Centrifugo-Error-Mode"

// apiMethod answers one command: POST /api/{method}.
func (h *Handler) apiMethod(w http.ResponseWriter, r *http.Request) {
	q, body, ok := h.apiRequest(w, r)
	if !ok {
		return
	}
	method := r.PathValue("method")
	if method == "batch" {
		h.apiBatch(w, r, q, body)
		return
	}
	reply := h.runCommands(r.Context(), q, []centrifugo.Command{centrifugo.Decode(method, body)})[0]
	status := http.StatusOK
	switch {
	case reply.Err == nil:
	case reply.Err.Code == centrifugo.CodeMethodNotFound:
		status = http.StatusNotFound
	case reply.Err.Malformed:
		status = http.StatusBadRequest
	case r.Header.Get(apiErrorMode) == "transport":
		status = statusOf(reply.Err)
	}
	serve.JSON(w, status, reply.Response())
}

// apiBatch answers the commands of a batch.
func (h *Handler) apiBatch(w http.ResponseWriter, r *http.Request, q request, body []byte) {
	commands, err := centrifugo.DecodeBatch(body, maxCommands)
	if err != nil {
		h.refuseAPI(w, http.StatusBadRequest, err)
		return
	}
	serve.JSON(w, http.StatusOK, centrifugo.Batch(h.runCommands(r.Context(), q, commands)))
}

// apiLines answers the commands of a body that has one on each line: POST /api.
func (h *Handler) apiLines(w http.ResponseWriter, r *http.Request) {
	q, body, ok := h.apiRequest(w, r)
	if !ok {
		return
	}
	commands, err := centrifugo.DecodeLines(body, maxCommands)
	if err != nil {
		h.refuseAPI(w, http.StatusBadRequest, err)
		return
	}
	lines, broken := centrifugo.Lines(h.runCommands(r.Context(), q, commands))
	if broken != nil {
		h.refuseAPI(w, http.StatusInternalServerError, centrifugo.NewError(centrifugo.CodeInternal, "the answer could not be written"))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(lines)))
	w.Write(lines) // a client that left hears nothing, and needs nothing
}

// apiRequest reads what a request brings; ok is false if it may not come in, and
// it is answered.
func (h *Handler) apiRequest(w http.ResponseWriter, r *http.Request) (q request, body []byte, ok bool) {
	sender, found := h.apiHolder(r.Header)
	if !found {
		h.refuseAPI(w, http.StatusUnauthorized, centrifugo.NewError(centrifugo.CodeUnauthorized,
			"send an API key in X-API-Key or Authorization: apikey"))
		return q, nil, false
	}
	if p := h.within(w, r, limitOfKey, sender, h.cfg.KeyLimits.Of(sender)); p != nil {
		h.refuseAPI(w, p.Status, centrifugo.OfProblem(p))
		return q, nil, false
	}
	body, p := serve.Body(w, r, MaxBody)
	if p != nil {
		h.refuseAPI(w, p.Status, centrifugo.OfProblem(p))
		return q, nil, false
	}
	return request{sender: sender, trace: telemetry.Trace(r.Header), now: h.now()}, body, true
}

// apiHolder returns the name of the API key that a request carries, in any of
// the ways of ours or as "Authorization: apikey KEY".
func (h *Handler) apiHolder(header http.Header) (name string, ok bool) {
	scheme, key, _ := strings.Cut(header.Get("Authorization"), " ")
	if header.Get("X-API-Key") == "" && strings.EqualFold(scheme, "apikey") {
		key = strings.TrimSpace(key)
		if key == "" {
			return "", false
		}
		return h.cfg.Keys.Name(key)
	}
	return h.cfg.Keys.Holder(header)
}

// refuseAPI answers that none of a request's commands counts.
func (h *Handler) refuseAPI(w http.ResponseWriter, status int, err *centrifugo.Error) {
	h.metrics.commands.WithLabelValues("request", strconv.Itoa(err.Code)).Inc()
	serve.JSON(w, status, centrifugo.Response{Error: err})
}

// statusOf is the status of an error for callers that look at nothing else.
func statusOf(err *centrifugo.Error) int {
	switch err.Code {
	case centrifugo.CodeInternal:
		return http.StatusInternalServerError
	case centrifugo.CodeMethodNotFound:
		return http.StatusNotFound
	case centrifugo.CodeTooManyRequests:
		return http.StatusTooManyRequests
	}
	return http.StatusBadRequest
}

// runCommands carries commands out in their order and returns a reply for each.
// What is published in a row is kept and handed over at once.
func (h *Handler) runCommands(ctx context.Context, q request, commands []centrifugo.Command) []centrifugo.Reply {
	replies := make([]centrifugo.Reply, len(commands))
	for i := 0; i < len(commands); {
		n := i
		for n < len(commands) && commands[n].Publish != nil {
			n++
		}
		if n > i {
			h.publish(ctx, q, commands[i:n], replies[i:n])
			i = n
			continue
		}
		replies[i] = h.runOrder(ctx, commands[i])
		i++
	}
	for _, r := range replies {
		outcome := "ok"
		if r.Err != nil {
			outcome = strconv.Itoa(r.Err.Code)
		}
		h.metrics.commands.WithLabelValues(r.Command.Method, outcome).Inc()
	}
	return replies
}

// publish accepts the messages of commands that are all publish or broadcast.
func (h *Handler) publish(ctx context.Context, q request, commands []centrifugo.Command, replies []centrifugo.Reply) {
	var drafts []*draft
	var places []int // of their commands
	for i, c := range commands {
		replies[i].Command = c
		to, result := addressed(c)
		replies[i].Result = result
		if to.IsZero() {
			continue // every channel of a broadcast has its own error
		}
		d, p := q.published(c.Publish, to)
		if p != nil {
			h.metrics.message(p.Code)
			replies[i].Err = centrifugo.OfProblem(p)
			continue
		}
		drafts = append(drafts, d)
		places = append(places, i)
	}
	for i, o := range h.accept(ctx, drafts) {
		if o.problem != nil {
			replies[places[i]].Err = centrifugo.OfProblem(o.problem)
		}
	}
}

// addressed returns whom a command's message is for, and the result if it is
// sent: of a broadcast one for each channel, those that cannot be included.
func addressed(c centrifugo.Command) (to push.Recipients, result any) {
	var all centrifugo.Broadcasted
	for _, name := range c.Publish.Channels {
		if err := centrifugo.CheckChannel(name); err != nil {
			all.Responses = append(all.Responses, centrifugo.Response{Error: err})
			continue
		}
		all.Responses = append(all.Responses, centrifugo.Response{Result: centrifugo.Empty{}})
		if user, personal := name.User(); personal {
			to.Users = append(to.Users, user)
		} else if name == push.All {
			to.All = true
		} else {
			to.Channels = append(to.Channels, name)
		}
	}
	if c.Method == centrifugo.MethodBroadcast {
		return to, all
	}
	return to, nil
}

// published makes the draft of what is published.
func (q request) published(p *centrifugo.Publish, to push.Recipients) (*draft, *push.Problem) {
	in := input{To: to, Event: p.Event, Data: p.Data, TTL: p.TTL, CollapseKey: p.CollapseKey}
	if p.ID != "" {
		in.ID = &p.ID
	}
	return q.draftOf(&in, "")
}

// runOrder carries out a command that publishes nothing.
func (h *Handler) runOrder(ctx context.Context, c centrifugo.Command) centrifugo.Reply {
	reply := centrifugo.Reply{Command: c, Err: c.Err}
	if c.Err != nil {
		return reply
	}
	if h.cfg.Questions == nil {
		reply.Err = centrifugo.NewError(centrifugo.CodeNotAvailable, "nobody here can ask the nodes: DISPATCH_RPC_URL is not set")
		return reply
	}
	var unanswered []push.NodeID
	var refused int
	var err error
	switch {
	case c.Disconnect != nil:
		var a push.DisconnectAnswer
		a, err = h.cfg.Questions.Disconnect(ctx, *c.Disconnect)
		unanswered = a.Unanswered
	case c.Subscribe != nil:
		var a push.SubscriptionAnswer
		a, err = h.cfg.Questions.Subscribe(ctx, *c.Subscribe)
		unanswered, refused = a.Unanswered, a.Refused
	case c.Unsubscribe != nil:
		var a push.SubscriptionAnswer
		a, err = h.cfg.Questions.Unsubscribe(ctx, *c.Unsubscribe)
		unanswered = a.Unanswered
	default:
		var a push.NodesAnswer
		a, err = h.cfg.Questions.Nodes(ctx)
		reply.Result = h.apiNodes(a)
	}
	if ctx.Err() == nil {
		h.questions.Note(h.log, err)
	}
	switch {
	case err != nil:
		reply.Err = centrifugo.NewError(centrifugo.CodeInternal, "the nodes cannot be asked now")
	case len(unanswered) > 0:
		reply.Err = centrifugo.NewError(centrifugo.CodeInternal, "%d nodes did not answer; send it again", len(unanswered))
	case refused > 0:
		reply.Err = centrifugo.NewError(centrifugo.CodeLimitExceeded, "%d connections have as many subscriptions as they may, or could not be read for; the others are subscribed", refused)
	}
	return reply
}

// apiNodes returns the nodes that answered, as info tells them.
func (h *Handler) apiNodes(a push.NodesAnswer) centrifugo.Nodes {
	result := centrifugo.Nodes{Nodes: []centrifugo.Node{}}
	for _, n := range a.Nodes {
		if n.NodeStatus == nil {
			continue
		}
		result.Nodes = append(result.Nodes, centrifugo.Node{
			UID: n.Node, Name: n.Address, Version: n.Version, NumClients: n.Connections, NumUsers: n.Users, NumChannels: n.Channels,
			Uptime: centrifugo.Seconds(h.now().Sub(n.StartedAt).Truncate(time.Second).Seconds()),
		})
	}
	return result
}
