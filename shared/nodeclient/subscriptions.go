package nodeclient

import (
	"context"
	"fmt"

	"pushcluster/shared/push"
)

// Subscribe has the node subscribe a user's connections to a topic.
func (c *Client) Subscribe(ctx context.Context, node push.NodeID, req push.SubscribeRequest) (push.SubscriptionAnswer, error) {
	var answer push.SubscriptionAnswer
	if err := c.post(ctx, node, "/v1/node/subscribe", &req, &answer); err != nil {
		return push.SubscriptionAnswer{}, fmt.Errorf("subscribe on %s: %w", node, err)
	}
	return answer, nil
}

// Unsubscribe has the node end the subscriptions of a user's connections to a
// topic.
func (c *Client) Unsubscribe(ctx context.Context, node push.NodeID, req push.UnsubscribeRequest) (push.SubscriptionAnswer, error) {
	var answer push.SubscriptionAnswer
	if err := c.post(ctx, node, "/v1/node/unsubscribe", &req, &answer); err != nil {
		return push.SubscriptionAnswer{}, fmt.Errorf("unsubscribe on %s: %w", node, err)
	}
	return answer, nil
}
