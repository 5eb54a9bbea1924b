// Package otlp is what sending spans and sending metrics have in common: where the
// endpoint is, how to connect to it, what its answers mean, and what to tell users
// about failures.
//
// A Link is the way to the endpoint in use. It replaces its client when the endpoint
// changes, and closes the last one after its request. The clients are those of the
// OpenTelemetry SDK, over a Connection. They return what went wrong with a request as
// a Failure (errors.As), which says what the answer means for the request, and
// explains itself in the words of a voice.Voice.
package otlp
