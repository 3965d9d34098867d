package admin

import "testing"

type listing struct{ *process }

func (listing) Resources() []ResourceView {
	return []ResourceView{
		{Type: "Cluster", Name: "idle", Version: "3"},
		{Type: "Cluster", Name: "xds", Used: true, Static: true},
		{Type: "Listener", Name: "l", Version: "1", Used: true, Stale: true, Refused: "address: is required"},
	}
}

// TestResources: what is used of the configuration, and what is wrong with it, can be
// picked out.
func TestResources(t *testing.T) {
	r := start(t, nil)
	r.want("GET", "/resources", 404, "resources are not known here\n")
	r.srv.cfg.Source = listing{r.proc}
	const idle, xds, l = "Cluster::idle::unused::3\n", "Cluster::xds::used,static\n", "Listener::l::used,stale,refused::1\n"
	for state, want := range map[string]string{
		"": idle + xds + l, "unused": idle, "used": xds + l, "static": xds, "stale": l, "refused": l, "other": "",
	} {
		r.want("GET", "/resources?state="+state, 200, want)
	}
	r.want("GET", "/resources?format=json&state=refused", 200, `{
 "resources": [
  {
   "type": "Listener",
   "name": "l",
   "version_info": "1",
   "used": true,
   "stale": true,
   "refused": "address: is required"
  }
 ]
}
`)
	r.want("GET", "/resources?format=json&state=none", 200, "{\n \"resources\": []\n}\n")
}
