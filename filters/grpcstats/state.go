package grpcstats

import "strconv"

// State is the filter state of the filter (emit_filter_state): how many messages there
// were. It is the filter's, and valid as long as the stream.
type State struct{ Requests, Responses uint64 }

// String implements fmt.Stringer: "1,2".
func (st *State) String() string {
	b := strconv.AppendUint(make([]byte, 0, 24), st.Requests, 10)
	return string(strconv.AppendUint(append(b, ','), st.Responses, 10))
}

// MarshalJSON implements json.Marshaler: the message FilterObject, whose numbers are
// strings, and which leaves out zeros.
func (st *State) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	b = appendCount(b, "requestMessageCount", st.Requests)
	b = appendCount(b, "responseMessageCount", st.Responses)
	return append(b, '}'), nil
}

func appendCount(b []byte, name string, n uint64) []byte {
	if n == 0 {
		return b
	}
	if len(b) > 1 {
		b = append(b, ',')
	}
	b = append(strconv.AppendQuote(b, name), ':')
	return strconv.AppendQuote(b, strconv.FormatUint(n, 10))
}
