package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"pushcluster/shared/store"
)

// errClosed is what callers of a closed store get.
var errClosed = fmt.Errorf("%w: it is closed", store.ErrUnavailable)

// unavailable marks err as the store's failure to answer.
func unavailable(err error) error { return fmt.Errorf("%w: %w", store.ErrUnavailable, err) }

// Codes of a server's answers.
const (
	codeDuplicateKey      = 11000
	codeIndexExistsOther  = 85 // an index of this name with other options
	codeIndexExistsOther2 = 86 // the same, of other keys
	codeNotImplemented    = 238
)

// transientCodes are a server's answers that another try may not get: it is no
// primary, steps down, shuts down, ran out of time, or does not let us in yet.
var transientCodes = []int{
	6, 7, 13, 18, 24, 43, 50, 63, 64, 79, 89, 91, 100, 112, 133, 134, 136, 146, 150, 175, 189, 202, 234, 262, 290, 299,
	317, 358, 384, 391, 9001, 10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031,
}

// classify marks err as [store.ErrUnavailable] unless the server understood and
// refused, which no other try would change.
func classify(err error) error {
	if err == nil || errors.Is(err, store.ErrUnavailable) {
		return err
	}
	if errors.Is(err, mongo.ErrClientDisconnected) {
		return errClosed
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || mongo.IsTimeout(err) || mongo.IsNetworkError(err) {
		return unavailable(err)
	}
	if _, unreadable := errors.AsType[*bson.DecodeError](err); unreadable {
		return err // the server answered, with a document that is not one of ours
	}
	var answer mongo.ServerError
	if !errors.As(err, &answer) {
		return unavailable(err) // it never reached a server
	}
	for _, code := range answer.ErrorCodes() {
		if slices.Contains(transientCodes, code) {
			return unavailable(err)
		}
	}
	if answer.HasErrorLabel("RetryableWriteError") || answer.HasErrorLabel("NetworkError") || writeConcernFailed(err) {
		return unavailable(err)
	}
	return err
}

// writeConcernFailed reports whether a write was made but not (yet) by a
// majority.
func writeConcernFailed(err error) bool {
	var bulk mongo.BulkWriteException
	if errors.As(err, &bulk) {
		return bulk.WriteConcernError != nil
	}
	var write mongo.WriteException
	return errors.As(err, &write) && write.WriteConcernError != nil
}

// duplicates returns the indexes of the documents that an unordered insertion
// refused because a unique key of theirs exists. An error means that something
// else was wrong too.
func duplicates(err error) ([]int, error) {
	if err == nil {
		return nil, nil
	}
	var bulk mongo.BulkWriteException
	if !errors.As(err, &bulk) || bulk.WriteConcernError != nil {
		return nil, classify(err)
	}
	var indexes []int
	for _, e := range bulk.WriteErrors {
		if e.Code != codeDuplicateKey {
			return nil, classify(err)
		}
		indexes = append(indexes, e.Index)
	}
	return indexes, nil
}

// refused reports whether the server answered err as something that it cannot
// or will not do.
func refused(err error) bool {
	var answer mongo.ServerError
	return errors.As(err, &answer) && !errors.Is(classify(err), store.ErrUnavailable)
}

// notImplemented reports whether the server said that it cannot be asked that:
// FerretDB v1 knows few of the accumulators of an aggregation.
func notImplemented(err error) bool {
	var answer mongo.ServerError
	return errors.As(err, &answer) && answer.HasErrorCode(codeNotImplemented)
}
