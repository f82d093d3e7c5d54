package dispatchfn

import (
	"context"
	"errors"
	"fmt"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// TakeQueue dispatches a batch of a queue's items, each the body of a
// [push.DispatchRequest], as one: one pipeline to Redis, one request per node.
// Only items that were delivered before are asked about in the inbox, and go
// first. An item is done when every message in it is confirmed; the others of
// an item that comes again are then repeats, which change nothing.
func (h *Handler) TakeQueue(ctx context.Context, items []serve.QueueItem) []error {
	errs := make([]error, len(items))
	var fresh, again queueBatch
	for i, item := range items {
		var req push.DispatchRequest
		if p := decodeRequest(item.Body, &req); p != nil {
			errs[i] = p
			continue
		}
		if len(req.Messages) == 0 || len(req.Messages) > MaxMessages {
			errs[i] = push.NewProblem(push.CodeBadRequest, "messages holds %d, not 1 to %d", len(req.Messages), MaxMessages)
			continue
		}
		if req.Again || item.Again {
			again.add(i, &req)
		} else {
			fresh.add(i, &req)
		}
	}
	again.dispatch(ctx, h, true, errs)
	fresh.dispatch(ctx, h, false, errs)
	return errs
}

// A queueBatch is the messages of several items, and which item each is of.
type queueBatch struct {
	messages []*push.Message
	items    []int
}

func (b *queueBatch) add(item int, req *push.DispatchRequest) {
	for i := range req.Messages {
		b.messages, b.items = append(b.messages, &req.Messages[i]), append(b.items, item)
	}
}

// dispatch sets errs, by item, to the first problem of its messages.
func (b *queueBatch) dispatch(ctx context.Context, h *Handler, again bool, errs []error) {
	if len(b.messages) == 0 {
		return
	}
	for i, p := range h.Dispatch(ctx, b.messages, again) {
		if p != nil && errs[b.items[i]] == nil {
			errs[b.items[i]] = fmt.Errorf("message %s: %w", b.messages[i].ID, p)
		}
	}
}

// RunSchedule does once what Run does at each of its beats: it works through
// the outbox and sweeps the store.
func (h *Handler) RunSchedule(ctx context.Context) error {
	outbox := h.emptyOutbox(ctx)
	if outbox != nil {
		h.metrics.sweeps.WithLabelValues(kindOutbox).Inc()
		outbox = fmt.Errorf("work through the outbox: %w", outbox)
	}
	swept := h.sweepStore(ctx)
	if swept != nil {
		h.metrics.sweeps.WithLabelValues(kindStore).Inc()
		swept = fmt.Errorf("sweep the store: %w", swept)
	}
	return errors.Join(outbox, swept)
}
