package filter

import "time"

// Pacer says when the bytes of one body may go on. The engine asks it on the goroutine
// that moves that body, without holding up hooks of the other direction.
type Pacer interface {
	// Take asks for n bytes, which is more than 0. It returns how many of them may go now
	// and, if that is not all, after how long to ask for the rest.
	Take(n int, now time.Time) (granted int, again time.Duration)
	// Complete is called when the last byte has been granted, before the end of the body
	// goes on. For a response it may put fields into s.ResponseTrailers, which then follow;
	// where upstream has sent some, they are there, and were shown to the hooks.
	Complete(s *Stream)
}
