package registry_test

import (
	"fmt"
	"testing"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

// A call of thousands of items goes in several pipelines, and is one all the
// same: in order, in one term, each item once.
func TestAppendThousands(t *testing.T) {
	b := newBench(t, registrytest.Redis(t), registry.Config{})
	var items []registry.Item
	for i := range 2500 {
		m := message(fmt.Sprint("m", i))
		items = append(items, registry.Item{Channel: "all", Message: m}, registry.Item{Channel: push.Channel(fmt.Sprint("#", i)), Message: m})
	}
	first := b.append(t, items...)
	for i := 2; i < len(items); i += 2 {
		if first.Items[i].Prev != first.Items[i-2].Offset {
			t.Fatalf("item %d follows %d, want %d", i, first.Items[i].Prev, first.Items[i-2].Offset)
		}
	}
	b.server.FlushAll()
	for i := range items {
		items[i].Asked = true
	}
	again := b.append(t, items...)
	for i, it := range again.Items {
		if it.Repeat || it.Offset <= again.Term.Floor {
			t.Fatalf("item %d after a loss = %+v, want a new place above %d", i, it, again.Term.Floor)
		}
	}
}
