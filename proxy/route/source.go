package route

import (
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Source holds a table that is replaced while it is in use. It implements
// filter.RouteSource and is safe for concurrent use.
type Source struct {
	table atomic.Pointer[filter.RouteTable]
}

// NewSource returns a source without a table.
func NewSource() *Source { return &Source{} }

// Set replaces the table for the requests to come; nil takes it away.
func (s *Source) Set(t filter.RouteTable) { s.table.Store(&t) }

// Current implements filter.RouteSource.
func (s *Source) Current() filter.RouteTable {
	if t := s.table.Load(); t != nil {
		return *t
	}
	return nil
}
