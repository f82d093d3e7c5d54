package verify

import (
	"context"
	"fmt"
	"sync"
	"time"

	"pushcluster/shared/push"
)

// gather is how long a question waits for others, at most, while a request is
// under way that may end before.
const gather = 5 * time.Millisecond

// apartFor is how long an Auth that knows no batches is asked about one token at
// a time before it is tried again.
const apartFor = time.Minute

// A desk takes questions to Auth, together where several wait. A question that
// comes while nothing is under way goes at once. Those that come meanwhile go
// with the next request: when one has ended, when they are as many as a request
// may have, or when the first of them has waited for [gather], so that an Auth
// that is slow is asked several things at once.
//
// What waits here is no more than who waits for it, and that for the deadline.
type desk struct {
	// Fixed by New.
	parallel int           // the most requests at once
	deadline time.Duration // for one question in all
	// kept returns the good answer that is kept for a name, nil if there is none. It
	// is called under mu, for else an answer could come between the look and the
	// question; it must neither call the desk nor wait for anything.
	kept func(name questionName) *push.Identity
	// send asks Auth about questions, with ctx, and has answered them or given
	// them back (see desk.giveBack) when it returns.
	send func(ctx context.Context, questions []*question)

	running sync.WaitGroup // the requests; Add happens under mu

	mu       sync.Mutex // guards what follows
	byName   map[questionName]*question
	oldest   *question // of those without answer
	youngest *question
	waiting  []*question // to go together, in the order in which they came
	alone    []*question // to go by themselves
	aloneNow bool        // the last request taken was of one that goes by itself
	requests int         // under way
	apart    time.Time   // until when all go by themselves
	gathered *time.Timer // tells that the first has waited long enough; nil: none is set
	overdue  *time.Timer // tells that the oldest has missed its deadline; nil: none is set
}

// A questionName is a token and the life of the cache: who asks after an
// eviction must not share an answer from before it.
type questionName struct {
	key  cacheKey
	life int64
}

// A question is one token that Auth is asked about. Its answer is there once
// done is closed.
type question struct {
	questionName
	token string
	asked time.Time // by the monotonic clock
	done  chan struct{}

	// Set before done is closed.
	identity *push.Identity // nil with err
	err      error

	// Guarded by desk.mu.
	answered       bool
	older, younger *question // of those without answer
}

// An answer is what a question got.
type answer struct {
	identity *push.Identity // shared by all who ask: nobody changes it
	err      error
}

// ask returns the question of that name; where there is none it is asked. One that
// was answered since its caller found nothing kept is not asked again.
func (d *desk) ask(name questionName, token string) *question {
	d.mu.Lock()
	defer d.mu.Unlock()
	if under, ok := d.byName[name]; ok {
		return under
	}
	if identity := d.kept(name); identity != nil {
		q := &question{questionName: name, done: make(chan struct{}), identity: identity, answered: true}
		close(q.done)
		return q
	}
	now := time.Now()
	q := &question{questionName: name, token: token, asked: now, done: make(chan struct{}), older: d.youngest}
	d.byName[name] = q
	if d.youngest != nil {
		d.youngest.younger = q
	} else {
		d.oldest = q
	}
	d.youngest = q
	if d.overdue == nil {
		d.overdue = time.AfterFunc(d.deadline, d.expire)
	}
	if now.Before(d.apart) || !plain(token) {
		d.alone = append(d.alone, q)
	} else {
		d.waiting = append(d.waiting, q)
	}
	d.start(false)
	return q
}

// plain reports whether a token has nothing but what tokens are made of. What
// has more is no burden to others.
func plain(token string) bool {
	for i := range len(token) {
		c := token[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// start starts the requests that are due. It is long enough that the first of
// those that wait did so if they are to go anyway. d.mu is held.
func (d *desk) start(longEnough bool) {
	for d.requests < d.parallel {
		if len(d.alone) == 0 && d.requests > 0 && !longEnough && len(d.waiting) < push.MaxTokens {
			break
		}
		waited := len(d.waiting)
		questions := d.take()
		if questions == nil {
			return
		}
		if len(d.waiting) < waited {
			longEnough = false
		}
		d.requests++
		d.running.Go(func() { d.work(questions) })
	}
	if len(d.waiting) > 0 && d.requests < d.parallel && d.gathered == nil {
		d.gathered = time.AfterFunc(gather, d.hurry)
	}
}

// hurry has those who wait go if they have waited long enough.
func (d *desk) hurry() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gathered = nil
	if len(d.waiting) == 0 {
		return
	}
	left := gather - time.Since(d.waiting[0].asked)
	if left > 0 {
		d.gathered = time.AfterFunc(left, d.hurry)
		return
	}
	d.start(true)
}

// work makes requests for as long as there is something to ask, beginning with
// questions.
func (d *desk) work(questions []*question) {
	for questions != nil {
		last := questions[len(questions)-1]
		ctx, cancel := context.WithDeadline(context.Background(), last.asked.Add(d.deadline))
		d.send(ctx, questions)
		cancel()
		d.mu.Lock()
		questions = d.take()
		if questions == nil {
			d.requests--
		}
		d.start(false)
		d.mu.Unlock()
	}
}

// take returns what is to go with the next request, nil if nothing waits. Those
// that go by themselves and those that go together take turns: however many there
// are of the one kind, and however long Auth takes for them, the others get on.
// d.mu is held.
func (d *desk) take() []*question {
	if d.aloneNow {
		if questions := d.takeTogether(); questions != nil {
			d.aloneNow = false
			return questions
		}
	}
	if questions := d.takeAlone(); questions != nil {
		d.aloneNow = true
		return questions
	}
	d.aloneNow = false
	return d.takeTogether()
}

func (d *desk) takeAlone() []*question {
	for len(d.alone) > 0 {
		q := d.alone[0]
		d.alone[0] = nil
		if d.alone = d.alone[1:]; len(d.alone) == 0 {
			d.alone = nil
		}
		if !q.answered {
			return []*question{q}
		}
	}
	return nil
}

func (d *desk) takeTogether() []*question {
	var questions []*question
	n, size := 0, 0
	for _, q := range d.waiting {
		if len(questions) == push.MaxTokens || size+len(q.token) > push.MaxTokensBytes {
			break
		}
		n++
		if !q.answered {
			questions = append(questions, q)
			size += len(q.token)
		}
	}
	clear(d.waiting[:n])
	if d.waiting = d.waiting[n:]; len(d.waiting) == 0 {
		d.waiting = nil
	}
	return questions
}

// giveBack has questions go by themselves; where always is true, all that come
// in the time after it too.
func (d *desk) giveBack(questions []*question, always bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.alone = append(d.alone, questions...)
	if always {
		d.apart = time.Now().Add(apartFor)
		d.alone = append(d.alone, d.waiting...)
		d.waiting = nil
	}
}

// answer gives each question its answer, unless it has one.
func (d *desk) answer(questions []*question, answers []answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, q := range questions {
		d.close(q, answers[i])
	}
}

// close gives a question its answer, unless it has one. d.mu is held.
func (d *desk) close(q *question, a answer) {
	if q.answered {
		return
	}
	q.answered, q.identity, q.err = true, a.identity, a.err
	delete(d.byName, q.questionName)
	if q.older != nil {
		q.older.younger = q.younger
	} else {
		d.oldest = q.younger
	}
	if q.younger != nil {
		q.younger.older = q.older
	} else {
		d.youngest = q.older
	}
	q.older, q.younger = nil, nil
	close(q.done)
}

// expire answers what has missed its deadline.
func (d *desk) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.overdue = nil
	late := answer{err: fmt.Errorf("%w: no answer from Auth within %s, with %d requests under way", ErrUnavailable, d.deadline, d.requests)}
	for d.oldest != nil {
		left := d.deadline - time.Since(d.oldest.asked)
		if left > 0 {
			d.overdue = time.AfterFunc(left, d.expire)
			return
		}
		d.close(d.oldest, late)
	}
}

// wait returns when nothing is under way any more and nothing will be.
func (d *desk) wait() {
	d.running.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range []*time.Timer{d.gathered, d.overdue} {
		if t != nil {
			t.Stop()
		}
	}
}
