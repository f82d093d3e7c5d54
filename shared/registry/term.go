package registry

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"pushcluster/shared/push"
)

//go:embed replace.lua
var replaceScript string

const settleTries = 20

// A term that goes on at another Redis is left alone for termTurn, as one that has
// begun there is: two sides that do not see each other's Redis take turns. This Redis
// is looked at so often meanwhile.
const (
	termTurn  = 2 * time.Second
	termLooks = settleTries / 2
)

// A sight is what one look at Redis showed.
type sight struct {
	marker string
	runID  string
	met    int64 // what Registry.met was before the look began
	// primaries are in a Cluster the addresses of those whose run ids these are.
	primaries []string
}

// Term returns the term in force now. It asks Redis for its marker and run id,
// and starts the next term if Redis may have lost its memory. Its error means
// that Redis or the store could not be asked.
func (r *Registry) Term(ctx context.Context) (push.Term, error) {
	return r.lookAgain(ctx, r.cfg.Now())
}

// InTerm reports whether t is in force still: whether what was in the store before
// the call is there for whoever reads in a later term. It asks the store, for a
// Redis that others have left can not know: cut off with its network, it goes on
// as if nothing had happened. Its error means that the store could not be asked.
func (r *Registry) InTerm(ctx context.Context, t push.Term) (bool, error) {
	if kept := r.term.Load(); kept != nil && kept.Marker != t.Marker {
		return false, nil
	}
	lasts, err := r.terms.TermLasts(ctx, t.Marker)
	if err != nil {
		return false, fmt.Errorf("ask for the term: %w", err)
	}
	if !lasts {
		r.forget(t)
	}
	return lasts, nil
}

// forget notes that t has ended, though Redis may look as it did in it.
func (r *Registry) forget(t push.Term) {
	if known := r.term.Load(); known != nil && known.Marker == t.Marker {
		r.term.CompareAndSwap(known, nil)
	}
}

// suspect reports whether there may be another Redis than when the run id was last
// found right: a connection was opened since, or another server of a Cluster took
// a pipeline.
func (r *Registry) suspect() bool { return r.met.Load() != r.checked.Load() }

// found notes that the run id is right by s.
func (r *Registry) found(s sight) {
	r.primaries.Store(&s.primaries)
	r.checked.Store(s.met)
}

// known returns the term that was last found in force, without asking Redis if
// there is one.
func (r *Registry) known(ctx context.Context) (push.Term, error) {
	if t := r.term.Load(); t != nil {
		return *t, nil
	}
	return r.lookAgain(ctx, r.cfg.Now())
}

// still returns the term in force if it must be another than t, which a
// pipeline ran under that read marker; same is true if t is in force.
func (r *Registry) still(ctx context.Context, t push.Term, marker string) (now push.Term, same bool, err error) {
	if marker == t.Marker && !r.suspect() {
		// What ended the suspicion may have ended t: it is asked for in this order.
		if kept := r.term.Load(); kept != nil && kept.Marker == t.Marker {
			return t, true, nil
		}
	}
	now, err = r.lookAgain(ctx, r.cfg.Now())
	if err != nil {
		return push.Term{}, false, err
	}
	// The marker that was read counts, not the one of the new look: t may have
	// gone and an equal marker never comes back.
	return now, now.Marker == t.Marker && marker == t.Marker, nil
}

// inTerm runs the commands that add queues until they ran in the term in
// force, and returns that term. They may run more than once.
func (r *Registry) inTerm(ctx context.Context, add func(redis.Pipeliner)) (push.Term, error) {
	t, err := r.known(ctx)
	if err != nil {
		return push.Term{}, err
	}
	for range settleTries {
		marker, err := r.lanes.do(ctx, add)
		if err != nil {
			return push.Term{}, err
		}
		var same bool
		if t, same, err = r.still(ctx, t, marker); err != nil {
			return push.Term{}, err
		}
		if same {
			return t, nil
		}
	}
	return push.Term{}, ErrUnsettled
}

// settle takes the right to change the term; the caller must call unsettle.
func (r *Registry) settle(ctx context.Context) error {
	select {
	case <-r.settling:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Registry) unsettle() { r.settling <- struct{}{} }

// lookAgain returns what a look at the term showed that began after since: one
// look serves all who waited for it.
func (r *Registry) lookAgain(ctx context.Context, since time.Time) (push.Term, error) {
	if err := r.settle(ctx); err != nil {
		return push.Term{}, err
	}
	defer r.unsettle()
	if t := r.term.Load(); t != nil && r.looked.After(since) {
		return *t, nil
	}
	began := r.cfg.Now()
	s, err := r.look(ctx, nil)
	if err != nil {
		return push.Term{}, err
	}
	t, err := r.agree(ctx, s)
	if err == nil {
		r.looked = began
	}
	return t, err
}

// agree returns the term in force, given what was just seen, and starts the
// next one if that is due. The caller holds settling.
func (r *Registry) agree(ctx context.Context, s sight) (push.Term, error) {
	if t := r.term.Load(); t != nil && s.marker == t.Marker && s.runID == t.RunID {
		r.found(s)
		return *t, nil
	}
	left := 0 // how often kept was left alone
	for range settleTries {
		kept, err := r.terms.Term(ctx)
		if err != nil {
			return push.Term{}, fmt.Errorf("load the term: %w", err)
		}
		switch {
		case kept.Number > 0 && s.marker == kept.Marker && s.runID == kept.RunID:
			r.term.Store(&kept)
			r.found(s)
			return kept, nil
		case markerNumber(s.marker) == kept.Number+1:
			_, err = r.terms.SwapTerm(ctx, kept, r.next(kept, s))
			if err != nil {
				return push.Term{}, fmt.Errorf("start term %d: %w", kept.Number+1, err)
			}
		case r.elsewhere(kept, s):
			if left++; left > 1 { // else it may have begun at this Redis since that was looked at
				if err := r.leaveAlone(ctx, kept); err != nil {
					return push.Term{}, err
				}
			}
		default:
			err = r.replaceMarker(ctx, s.marker, newMarker(kept.Number+1, s.runID))
			if err != nil {
				return push.Term{}, err
			}
		}
		if s, err = r.look(ctx, nil); err != nil {
			return push.Term{}, err
		}
	}
	return push.Term{}, ErrUnsettled
}

// elsewhere reports whether kept goes on at another Redis, and may for now: s is of
// one that has lost nothing since its own term, which was before. The caller holds
// settling.
func (r *Registry) elsewhere(kept push.Term, s sight) bool {
	if s.marker == kept.Marker || markerNumber(s.marker) > kept.Number || !s.unmoved() {
		return false
	}
	if r.rival != kept.Marker {
		r.rival, r.rivalSeen = kept.Marker, r.cfg.Now()
	}
	return r.cfg.Now().Sub(r.rivalSeen) < termTurn
}

// leaveAlone waits for a part of the time that kept, which goes on at another Redis,
// is left alone. It does not where it has closed connections behind one address: they
// may have led to the wrong server.
func (r *Registry) leaveAlone(ctx context.Context, kept push.Term) error {
	if r.connections.closeAll() {
		return nil
	}
	if err := wait(ctx, termTurn/termLooks); err != nil {
		return fmt.Errorf("term %d goes on at another Redis, which has taken over from this one or is that of others with the same store: %w", kept.Number, err)
	}
	return nil
}

// next returns the term after kept. The very first begins at Redis' clock, so
// that what an unknown earlier life left in Redis is not part of it.
func (r *Registry) next(kept push.Term, s sight) push.Term {
	now := push.OffsetAt(r.Now())
	floor := kept.Ceiling
	if kept.Number == 0 {
		floor = now
	}
	return push.Term{
		Number: kept.Number + 1, Marker: s.marker, RunID: s.runID,
		Floor: floor, Ceiling: ceiling(floor, now),
	}
}

// newMarker returns a marker for the term of that number that was never used. It
// says at which Redis it was put: NUMBER.UUID.RUN.
func newMarker(number int64, runID string) string {
	return strconv.FormatInt(number, 10) + "." + uuid.NewString() + "." + runSum(runID)
}

// runSum stands for a run id, which in a Cluster is long.
func runSum(runID string) string {
	sum := sha256.Sum256([]byte(runID))
	return hex.EncodeToString(sum[:8])
}

// unmoved reports whether the marker was put at this very Redis, in this life of
// it: then nothing of its memory was lost since. False where it does not tell its
// run id.
func (s sight) unmoved() bool {
	return s.runID != "" && strings.HasSuffix(s.marker, "."+runSum(s.runID))
}

// markerNumber returns the number of the term that marker was made for, or -1.
func markerNumber(marker string) int64 {
	number, _, _ := strings.Cut(marker, ".")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 {
		return -1
	}
	return n
}

func (r *Registry) replaceMarker(ctx context.Context, read, marker string) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	if err := r.rdb.Eval(ctx, replaceScript, []string{termKey}, read, marker).Err(); err != nil {
		return fmt.Errorf("write the term's marker: %w", err)
	}
	return nil
}

// look reads marker, run id and clock, and runs the commands that add queues
// in the same round trip, before them. On a Cluster the run ids are asked of
// every primary beside it.
func (r *Registry) look(ctx context.Context, add func(redis.Pipeliner)) (sight, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	s := sight{met: r.met.Load()}
	sent := r.cfg.Now()
	p := r.rdb.Pipeline()
	if add != nil {
		add(p)
	}
	get, clock := p.Get(ctx, termKey), p.Time(ctx)
	cluster, sharded := r.rdb.(*redis.ClusterClient)
	var info *redis.StringCmd
	if !sharded {
		info = p.Info(ctx, "server")
	}
	if err := exec(ctx, p); err != nil {
		return sight{}, fmt.Errorf("read the term's marker: %w", err)
	}
	if t, err := clock.Result(); err == nil {
		r.clock.heard(t, sent)
	}
	var err error
	if s.marker, err = get.Result(); err != nil && !errors.Is(err, redis.Nil) {
		return sight{}, fmt.Errorf("read the term's marker: %w", err)
	}
	if sharded {
		s.runID, s.primaries, err = clusterRunID(ctx, cluster)
	} else {
		s.runID, err = runID(info)
	}
	if err != nil {
		return sight{}, fmt.Errorf("read the run id: %w", err)
	}
	return s, nil
}

// runID returns the run id in an answer to INFO, "" from a server that does not
// tell.
func runID(info *redis.StringCmd) (string, error) { return infoField(info, "run_id") }

// infoField returns a field of an answer to INFO, "" from a server that does
// not tell.
func infoField(info *redis.StringCmd, name string) (string, error) {
	text, err := info.Result()
	if isTransport(err) {
		return "", err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value, nil
		}
	}
	return "", nil
}

// errReplica means that a server which should be a primary is none.
var errReplica = errors.New("a primary has become a replica")

// slotsPause is how long a look waits for news of who has which slots.
const slotsPause = 20 * time.Millisecond

// clusterRunID returns the run ids of all primaries, and their addresses. Which
// they are some server is asked, and it may not have heard yet that a replica took
// over: then one of them says that it is none, and another look is made.
func clusterRunID(ctx context.Context, cluster *redis.ClusterClient) (runIDs string, primaries []string, err error) {
	for {
		if runIDs, primaries, err = primaryRunIDs(ctx, cluster); !errors.Is(err, errReplica) {
			return runIDs, primaries, err
		}
		if wait(ctx, slotsPause) != nil {
			return "", nil, err
		}
	}
}

// primaryRunIDs is clusterRunID for what the server says that is asked.
func primaryRunIDs(ctx context.Context, cluster *redis.ClusterClient) (runIDs string, primaries []string, err error) {
	var mu sync.Mutex
	var ids []string
	err = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		info := c.Info(ctx, "server", "replication")
		id, err := runID(info)
		if role, _ := infoField(info, "role"); role == "slave" {
			err = errReplica
		}
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, id)
		primaries = append(primaries, c.Options().Addr)
		return err
	})
	slices.Sort(ids)
	return strings.Join(ids, ","), primaries, err
}
