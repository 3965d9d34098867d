package ads

import (
	"hash/fnv"
	"maps"
	"time"
)

// Stats counts what happened to a client. It is a plain copy; nothing in it moves.
type Stats struct {
	Connected   bool   // control_plane.connected_state
	Connects    uint64 // streams opened
	Disconnects uint64 // streams lost and failed attempts to open one
	Ignored     uint64 // responses of a type that was not asked for
	RateLimited uint64 // control_plane.rate_limit_enforced: requests that had to wait
	Pending     int    // control_plane.pending_requests: requests that wait now
	Identifier  string // control_plane.identifier, of the last response that had one
	Types       map[string]TypeStats
}

// TypeStats are the update counters of one type, under Envoy's meaning of the words.
type TypeStats struct {
	UpdateAttempt    uint64 // update_attempt
	UpdateSuccess    uint64 // update_success: responses accepted whole
	UpdateRejected   uint64 // update_rejected: responses with a refused resource
	UpdateFailure    uint64 // update_failure: streams lost
	InitFetchTimeout uint64 // init_fetch_timeout
	Reloads          uint64 // config_reload: responses that changed something
	// Version is a number that changes with VersionText (the gauge "version").
	// Envoy hashes differently; only equality means something.
	Version     uint64
	VersionText string // version_text, of the last response accepted whole
	// UpdateTime is when the last response was accepted whole; zero before that.
	UpdateTime time.Time
	// Resources is how many are held accepted.
	Resources int
}

func (s *Stats) edit(typeURL string, f func(*TypeStats)) {
	t := s.Types[typeURL]
	f(&t)
	s.Types[typeURL] = t
}

func (s Stats) clone() Stats {
	s.Types = maps.Clone(s.Types)
	return s
}

// SetVersion records the version of a response that was accepted whole.
func (s *TypeStats) SetVersion(text string) {
	if text == s.VersionText && s.Version != 0 {
		return
	}
	h := fnv.New64a()
	h.Write([]byte(text)) // never fails
	s.Version, s.VersionText = h.Sum64(), text
}
