package mongostore

import (
	"errors"
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"pushcluster/shared/store"
)

// TestUnreadableIsNotAway shows that a document which cannot be read is not
// taken for a server that is away: trying again would not help, and what reads
// several at once looks for the one at fault.
func TestUnreadableIsNotAway(t *testing.T) {
	raw, err := bson.Marshal(bson.D{{Key: "_id", Value: "m"}, {Key: "to", Value: "everybody"}})
	if err != nil {
		t.Fatal(err)
	}
	var d messageDoc
	err = bson.Unmarshal(raw, &d)
	if err == nil {
		t.Fatal("recipients that are a text were read")
	}
	if got := classify(fmt.Errorf("decode: %w", err)); errors.Is(got, store.ErrUnavailable) {
		t.Errorf("classify(%v) = %v, want it as it is", err, got)
	}
	if got := classify(errors.New("no route to host")); !errors.Is(got, store.ErrUnavailable) {
		t.Errorf("classify of another error = %v, want %v", got, store.ErrUnavailable)
	}
}
