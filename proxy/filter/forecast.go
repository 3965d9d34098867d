package filter

// Forecaster is an HTTP filter that can tell what it would do with a request that nobody has
// sent, for whoever asks what would become of it (mecha why --if).
type Forecaster interface {
	// Forecast does to the head of a request without a body what OnRequestHeaders, or the
	// ServeStream of a terminal filter, would do, and returns the same, but counts nothing,
	// asks nobody, sends nothing and remembers nothing. What it decides it notes as they do
	// (Stream.Decide). A terminal filter that would pass the request on returns nil.
	Forecast(s *Stream) error
}
