package cluster

import (
	"testing"
	"time"
)

// TestChangesAreMerged: changes of weight wait for the end of the window, other hosts do
// not, and take with them what waits.
func TestChangesAreMerged(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		s := staticSpec()
		s.Type, s.Assignment, s.MergeWindow = EDS, nil, time.Second
		if err := m.Set(s); err != nil {
			t.Fatal(err)
		}
		set := func(weight uint32, hosts ...string) {
			t.Helper()
			a := assignment("web")
			a.Localities = []Locality{{}}
			for _, addr := range hosts {
				h := hostAt(addr)
				h.Weight = weight
				a.Localities[0].Hosts = append(a.Localities[0].Hosts, h)
			}
			if err := m.SetAssignment(a); err != nil {
				t.Fatal(err)
			}
		}
		weight := func(what string, want uint32) {
			t.Helper()
			if got := m.Cluster("web").Hosts()[0].Weight; got != want {
				t.Errorf("%s: weight %d, want %d", what, got, want)
			}
		}
		set(1, "10.0.0.1:80")
		mustPick(t, m.Cluster("web"))
		set(2, "10.0.0.1:80")
		weight("the first change", 2)
		set(3, "10.0.0.1:80")
		set(4, "10.0.0.1:80")
		weight("inside of the window", 2)
		after(time.Second)
		weight("at its end", 4)
		after(time.Second + 1)
		set(5, "10.0.0.1:80")
		weight("after it", 5)
		set(6, "10.0.0.1:80")
		set(7, "10.0.0.1:80", "10.0.0.2:80")
		weight("with another host", 7)
		set(8, "10.0.0.1:80", "10.0.0.2:80")
		m.Remove("web")
		after(time.Minute)
		if st := &m.stats; st.UpdatedViaMerge.Value() != 1 || st.MergeCancelled.Value() != 1 || st.OutOfMergeWindow.Value() != 2 {
			t.Errorf("via merge %d, cancelled %d, out of window %d", st.UpdatedViaMerge.Value(), st.MergeCancelled.Value(), st.OutOfMergeWindow.Value())
		}
	})
}
