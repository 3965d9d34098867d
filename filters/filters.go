// Package filters is the list of all filters. Adding one is one folder and one line here.
package filters

import (
	"github.com/mecha-mesh/mecha/filters/hcm"
	"github.com/mecha-mesh/mecha/filters/router"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// All returns the descriptors of every filter in this build.
func All() []filter.Descriptor {
	return []filter.Descriptor{
		// listener filters

		// network filters
		hcm.Spec,

		// HTTP filters
		router.Spec,
	}
}
