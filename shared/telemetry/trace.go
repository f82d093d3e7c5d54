package telemetry

import (
	"context"
	"crypto/rand"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traceparent is the header of W3C Trace Context.
const traceparent = "traceparent"

// Trace returns the traceparent that h carries, in its canonical form, or a new
// one, not sampled, if h carries none that is valid.
func Trace(h http.Header) string {
	carrier := propagation.HeaderCarrier(h)
	ctx := propagation.TraceContext{}.Extract(context.Background(), carrier)
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		span = newSpan()
	}
	return format(span.WithTraceState(trace.TraceState{}))
}

func newSpan() trace.SpanContext {
	var (
		traceID trace.TraceID
		spanID  trace.SpanID
	)
	for !traceID.IsValid() || !spanID.IsValid() { // all zeros mean "none"
		rand.Read(traceID[:])
		rand.Read(spanID[:])
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID})
}

func format(span trace.SpanContext) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), span), carrier)
	return carrier[traceparent]
}
